"""tritonclient, unmodified, over HTTP and gRPC."""
import asyncio
import json
import queue
import unittest

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

import common
import serving


class Http(common.ClientChecks, unittest.TestCase):
    api = tritonclient.http
    not_found, invalid, unsupported, late = "404", "400", "400", "408"
    compressions = [dict(request_compression_algorithm=a, response_compression_algorithm=b)
                    for a in (None, "gzip", "deflate") for b in (None, "gzip", "deflate")]

    @staticmethod
    def url(server):
        return server.http

    def test_documents(self):
        server = self.client.get_server_metadata()
        self.assertEqual(server["name"], "minim")
        self.assertIn("binary_tensor_data", server["extensions"])
        metadata = self.client.get_model_metadata("identity_BYTES")
        self.assertEqual(metadata["inputs"], [{"name": "x", "datatype": "BYTES", "shape": [-1, 3]}])
        config = self.client.get_model_config("identity_BYTES")
        self.assertEqual(config["input"], [{"name": "x", "data_type": "TYPE_STRING", "dims": [3]}])
        self.assertEqual(self.client.get_model_config("fixed")["max_batch_size"], 0)
        index = self.client.get_model_repository_index()
        self.assertIn({"name": "cnn", "version": "1", "state": "READY", "reason": ""}, index)
        for model in ("cnn", ""):
            statistics = self.client.get_inference_statistics(model)["model_stats"]
            self.assertIn("ns", statistics[0]["inference_stats"]["compute_infer"])

    def test_json_tensors(self):
        for datatype in serving.DTYPES:
            x = serving.sample(datatype)
            tensor = self.api.InferInput("x", list(x.shape), datatype)
            outputs = [self.api.InferRequestedOutput("y", binary_data=False)]
            with self.subTest(datatype):
                if datatype in serving.NOT_AS_JSON:
                    tensor.set_data_from_numpy(x)
                    self.refused("400", datatype, self.client.infer, "identity_" + datatype,
                                 [tensor], outputs=outputs)
                    continue
                tensor.set_data_from_numpy(x, binary_data=False)
                answer = self.client.infer("identity_" + datatype, [tensor], outputs=outputs)
                y = np.array(answer.get_output("y")["data"], dtype=object).reshape(x.shape)
                if datatype == "BYTES":
                    y = np.vectorize(str.encode, otypes=[object])(y)
                self.assertEqual(y.astype(x.dtype).tolist(), x.tolist())

    def test_two_byte_floats_are_refused_as_json(self):
        from urllib.request import Request, urlopen
        from urllib.error import HTTPError
        for datatype in serving.NOT_AS_JSON:
            body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": datatype,
                                "data": [1, 2, 3]}]}
            request = Request(f"http://{self.server.http}/v2/models/identity_{datatype}/infer",
                              json.dumps(body).encode())
            with self.assertRaises(HTTPError) as caught:
                urlopen(request)
            self.assertEqual(caught.exception.code, 400)
            self.assertIn(datatype, json.load(caught.exception)["error"])
            caught.exception.close()

    def test_async_infer(self):
        client = self.api.InferenceServerClient(self.server.http, concurrency=8)
        xs = [np.full((1, 3), i, np.float32) for i in range(50)]
        asked = [client.async_infer("with blank", [self.input("x", x, "FP32")]) for x in xs]
        for x, request in zip(xs, asked):
            self.assertEqual(request.get_result().as_numpy("y").tolist(), (-x).tolist())
        failed = client.async_infer("absent", [self.input("x", xs[0], "FP32")])
        self.refused("404", "absent", failed.get_result)
        client.close()

    def test_asyncio(self):
        async def run():
            async with tritonclient.http.aio.InferenceServerClient(self.server.http) as client:
                self.assertTrue(await client.is_server_ready())
                xs = [np.full((1, 3), i, np.float32) for i in range(20)]
                answers = await asyncio.gather(*(
                    client.infer("with blank", [self.input("x", x, "FP32")]) for x in xs))
                for x, answer in zip(xs, answers):
                    self.assertEqual(answer.as_numpy("y").tolist(), (-x).tolist())
        asyncio.run(run())

    def test_what_is_not_offered(self):
        with self.assertRaises(InferenceServerException):
            self.client.register_system_shared_memory("r", "/r", 64)


class Grpc(common.ClientChecks, unittest.TestCase):
    api = tritonclient.grpc
    not_found, invalid = "NOT_FOUND", "INVALID_ARGUMENT"
    unsupported, late = "UNIMPLEMENTED", "DEADLINE_EXCEEDED"
    compressions = [dict(compression_algorithm=a) for a in (None, "gzip", "deflate")]

    @staticmethod
    def url(server):
        return server.grpc

    def test_documents(self):
        server = self.client.get_server_metadata(as_json=True)
        self.assertEqual(server["name"], "minim")
        self.assertIn("statistics", server["extensions"])
        metadata = self.client.get_model_metadata("identity_BYTES", as_json=True)
        self.assertEqual(metadata["inputs"],
                         [{"name": "x", "datatype": "BYTES", "shape": ["-1", "3"]}])
        config = self.client.get_model_config("identity_BYTES", as_json=True)["config"]
        self.assertEqual(config["input"],
                         [{"name": "x", "data_type": "TYPE_STRING", "dims": ["3"]}])
        self.assertEqual(config["backend"], "minim")
        self.assertEqual(self.client.get_model_config("fixed").config.max_batch_size, 0)
        index = self.client.get_model_repository_index()
        self.assertIn(("cnn", "1", "READY"),
                      [(m.name, m.version, m.state) for m in index.models])
        for model in ("cnn", ""):
            statistics = self.client.get_inference_statistics(model).model_stats
            self.assertTrue(statistics[0].inference_stats.HasField("compute_infer"))

    def test_equal_documents_on_both_wires(self):
        http = tritonclient.http.InferenceServerClient(self.server.http)
        names = [m["name"] for m in http.get_model_repository_index()]
        self.assertEqual(names, [m.name for m in self.client.get_model_repository_index().models])
        for name in names:
            a, b = http.get_model_metadata(name), self.client.get_model_metadata(name)
            for kind in ("inputs", "outputs"):
                self.assertEqual(
                    [(t["name"], t["datatype"], t["shape"]) for t in a[kind]],
                    [(t.name, t.datatype, list(t.shape)) for t in getattr(b, kind)])
            c, d = http.get_model_config(name), self.client.get_model_config(name).config
            self.assertEqual(c["max_batch_size"], d.max_batch_size)
            self.assertEqual([t["dims"] for t in c["input"]], [list(t.dims) for t in d.input])
        http.close()

    def test_async_infer(self):
        answers = queue.Queue()
        for i in range(50):
            x = np.full((1, 3), i, np.float32)
            self.client.async_infer("with blank", [self.input("x", x, "FP32")],
                                    lambda result, error, i=i: answers.put((i, result, error)))
        for _ in range(50):
            i, result, error = answers.get(timeout=30)
            self.assertIsNone(error)
            self.assertEqual(result.as_numpy("y").tolist(), [[-i] * 3])

    def test_asyncio(self):
        async def run():
            async with tritonclient.grpc.aio.InferenceServerClient(self.server.grpc) as client:
                self.assertTrue(await client.is_server_ready())
                xs = [np.full((1, 3), i, np.float32) for i in range(20)]
                answers = await asyncio.gather(*(
                    client.infer("with blank", [self.input("x", x, "FP32")]) for x in xs))
                for x, answer in zip(xs, answers):
                    self.assertEqual(answer.as_numpy("y").tolist(), (-x).tolist())
        asyncio.run(run())

    def test_stream(self):
        answers = queue.Queue()
        with self.api.InferenceServerClient(self.server.grpc) as client:
            client.start_stream(lambda result, error: answers.put((result, error)))
            for i in range(100):
                x = np.full((1, 3), i, np.float32)
                model = "absent" if i % 10 == 3 else "with blank"
                client.async_stream_infer(model, [self.input("x", x, "FP32")], request_id=str(i))
            for i in range(100):
                result, error = answers.get(timeout=30)
                if i % 10 == 3:
                    self.assertIn("absent", error.message())
                else:
                    self.assertIsNone(error)
                    self.assertEqual(result.get_response().id, str(i))
                    self.assertEqual(result.as_numpy("y").tolist(), [[-i] * 3])
            client.stop_stream()

    def test_typed_contents(self):
        # tritonclient sends raw bytes only; its generated stub sends what the messages can say.
        from tritonclient.grpc import service_pb2 as messages
        lists = {"BOOL": "bool_contents", "INT64": "int64_contents", "UINT64": "uint64_contents",
                 "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}
        for datatype in serving.DTYPES:
            if datatype in serving.NOT_AS_JSON:
                continue
            small = "uint_contents" if datatype.startswith("UINT") else "int_contents"
            x = serving.sample(datatype)
            request = messages.ModelInferRequest(model_name="identity_" + datatype)
            tensor = request.inputs.add(name="x", datatype=datatype, shape=[2, 3])
            getattr(tensor.contents, lists.get(datatype, small)).extend(x.flatten().tolist())
            result = self.api.InferResult(self.client._client_stub.ModelInfer(request))
            self.assertEqual(result.as_numpy("y").tolist(), x.tolist(), datatype)

    def test_health_check(self):
        import grpc
        with grpc.insecure_channel(self.server.grpc) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            self.assertEqual(check(b""), b"\x08\x01")  # SERVING

    def test_what_is_not_offered(self):
        self.refused("UNIMPLEMENTED", "", self.client.register_system_shared_memory, "r", "/r", 64)
        self.refused("UNIMPLEMENTED", "config", self.client.load_model, "cnn", config="{}")


if __name__ == "__main__":
    unittest.main()
