"""curl, as documentation shows it."""
import json
import subprocess
import unittest

import numpy as np

import serving


class Curl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def curl(self, path, *options, data=None):
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *options,
             *(["--data-binary", "@-"] if data is not None else []),
             f"http://{self.server.http}{path}"],
            input=data, capture_output=True, check=True)
        body, _, status = done.stdout.rpartition(b"\n")
        return int(status), body

    def test_documents(self):
        self.assertEqual(self.curl("/v2/health/live"), (200, b'{"live":true}'))
        self.assertEqual(self.curl("/v2/models/with%20blank/ready")[0], 200)
        self.assertEqual(self.curl("/v2/models/absent")[0], 404)
        self.assertIn("error", json.loads(self.curl("/v2/models/absent")[1]))
        status, index = self.curl("/v2/repository/index", "-X", "POST")
        self.assertEqual(status, 200)
        self.assertEqual(len(json.loads(index)), len(serving.DTYPES) + 5)
        self.assertIn(b"minim_ready 1", self.curl("/metrics")[1])

    def test_json(self):
        request = {"id": "1", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32",
                                          "data": [1, 2.5, -3]}]}
        for options in ((), ("--compressed",), ("-H", "Transfer-Encoding: chunked"),
                        ("-H", "Expect: 100-continue"), ("--http1.0",), ("--http2",)):
            status, body = self.curl("/v2/models/with%20blank/infer", *options,
                                     data=json.dumps(request).encode())
            self.assertEqual(status, 200, (options, body))
            self.assertEqual(json.loads(body)["outputs"][0]["data"], [-1, -2.5, 3])

    def test_binary(self):
        x = np.array([[1, 2, 3]], np.float32)
        head = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32",
                                       "parameters": {"binary_data_size": x.nbytes}}],
                           "parameters": {"binary_data_output": True}}).encode()
        status, body = self.curl("/v2/models/with%20blank/infer",
                                 "-H", f"Inference-Header-Content-Length: {len(head)}",
                                 data=head + x.tobytes())
        self.assertEqual(status, 200, body)
        self.assertEqual(np.frombuffer(body[-x.nbytes:], np.float32).tolist(), [-1, -2, -3])

    def test_large_and_wrong_bodies(self):
        self.assertEqual(self.curl("/v2/models/cnn/infer", data=b" " * (65 << 20))[0], 413)
        self.assertEqual(self.curl("/v2/models/cnn/infer", data=b"{")[0], 400)
        self.assertEqual(self.curl("/v2/models/cnn/infer")[0], 405)


if __name__ == "__main__":
    unittest.main()
