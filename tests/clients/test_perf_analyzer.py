"""perf_analyzer from PyPI, over HTTP and gRPC. Its binary needs a newer C library than Debian 12's;
where it does not start, the requests that its sources send are replayed with tritonclient."""
import concurrent.futures
import pathlib
import queue
import re
import subprocess
import sys
import unittest
import urllib.request

import numpy as np
import tritonclient.grpc
import tritonclient.http

import serving

BINARY = pathlib.Path(sys.executable).parent / "perf_analyzer"


def starts():
    try:
        return subprocess.run([BINARY, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


class Running(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0


@unittest.skipUnless(starts(), "perf_analyzer's binary does not start here; replayed instead")
class PerfAnalyzer(Running):
    def analyze(self, protocol, url, *options):
        done = subprocess.run(
            [BINARY, "-m", "cnn", "-i", protocol, "-u", url, "--concurrency-range", "4",
             "--measurement-mode", "count_windows", "--measurement-request-count", "200",
             *options], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"Throughput: [1-9]")

    def test_http(self):
        self.analyze("http", self.server.http, "--collect-metrics", "--metrics-url",
                     f"{self.server.http}/metrics")

    def test_grpc(self):
        self.analyze("grpc", self.server.grpc)

    def test_grpc_stream(self):
        self.analyze("grpc", self.server.grpc, "--streaming")


class Replay(Running):
    """What it asks before, between and after its windows, and what it reads from the answers."""

    def check_documents(self, extensions, metadata, config):
        self.assertIn("statistics", extensions)  # without it no statistics are asked for
        self.assertTrue({"model_configuration", "schedule_policy"} <= set(extensions))
        self.assertEqual([t["name"] for t in metadata["inputs"]],
                         [t["name"] for t in config["input"]])
        self.assertEqual([t["name"] for t in metadata["outputs"]],
                         [t["name"] for t in config["output"]])
        # With max_batch_size the first size of each shape is left out.
        self.assertGreater(int(config["max_batch_size"]), 0)
        self.assertEqual(metadata["inputs"][0]["shape"][1:], config["input"][0]["dims"])
        self.assertIn("dynamic_batching", config)
        self.assertNotIn("sequence_batching", config)

    def check_statistics(self, before, after, answers):
        def change(name, part="count"):
            return (int(after["inference_stats"][name].get(part, 0)) -
                    int(before["inference_stats"][name].get(part, 0)))
        self.assertEqual(change("success"), answers)
        self.assertGreater(change("success", "ns"), 0)
        self.assertEqual(change("fail"), 0)
        self.assertEqual(change("cache_hit") + change("cache_miss"), answers)
        self.assertEqual(change("compute_infer") + change("cache_hit"), answers)
        for name in ("queue", "compute_input", "compute_output"):
            self.assertEqual(change(name), change("compute_infer"))
        runs = int(after.get("execution_count", 0)) - int(before.get("execution_count", 0))
        self.assertTrue(1 <= runs <= answers)

    @staticmethod
    def inputs(api, i):
        x = np.full((1, 1, 8, 8), i % 40, np.float32)
        # What one client asked is not in the cache for the other.
        x[0, 0, 0, 0] = api is tritonclient.http
        return [api.InferInput("x", [1, 1, 8, 8], "FP32").set_data_from_numpy(x)]

    def test_http(self):
        with tritonclient.http.InferenceServerClient(self.server.http, concurrency=4) as client:
            self.check_documents(client.get_server_metadata()["extensions"],
                                 client.get_model_metadata("cnn", ""),
                                 client.get_model_config("cnn", ""))
            before = client.get_inference_statistics("cnn")["model_stats"][0]
            asked = [client.async_infer("cnn", self.inputs(tritonclient.http, i), request_id=str(i),
                                        outputs=[tritonclient.http.InferRequestedOutput("scores")])
                     for i in range(200)]
            self.assertEqual([a.get_result().get_response()["id"] for a in asked],
                             [str(i) for i in range(200)])
            after = client.get_inference_statistics("cnn")["model_stats"][0]
            self.check_statistics(before, after, 200)

    def test_grpc(self):
        with tritonclient.grpc.InferenceServerClient(self.server.grpc) as client:
            documents = (client.get_server_metadata(as_json=True)["extensions"],
                         client.get_model_metadata("cnn", as_json=True),
                         client.get_model_config("cnn", as_json=True)["config"])
            self.check_documents(*documents)
            before = client.get_inference_statistics("cnn", as_json=True)["model_stats"][0]
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda i: client.infer("cnn", self.inputs(tritonclient.grpc, i)),
                              range(200)))
            after = client.get_inference_statistics("cnn", as_json=True)["model_stats"][0]
            self.check_statistics(before, after, 200)

    def test_grpc_stream(self):
        answers = queue.Queue()
        with tritonclient.grpc.InferenceServerClient(self.server.grpc) as client:
            client.start_stream(lambda result, error: answers.put((result, error)))
            for i in range(100):
                client.async_stream_infer("cnn", self.inputs(tritonclient.grpc, i),
                                          enable_empty_final_response=True)
            for _ in range(100):
                result, error = answers.get(timeout=30)
                self.assertIsNone(error)
                # It counts an answer when this says that it is the last one to a request.
                final = result.get_response().parameters["triton_final_response"]
                self.assertTrue(final.bool_param)

    def test_collect_metrics(self):
        with urllib.request.urlopen(f"http://{self.server.http}/metrics") as answer:
            self.assertEqual(answer.status, 200)
            text = answer.read().decode()
        # It reads lines of this form and takes what it knows; without a GPU that is nothing.
        for line in text.splitlines():
            self.assertRegex(line, r"^(#.*|[a-zA-Z_:][\w:]*(\{.*\})? \S+)$")
        self.assertIsNone(re.search("^nv_gpu_", text, re.M))


if __name__ == "__main__":
    unittest.main()
