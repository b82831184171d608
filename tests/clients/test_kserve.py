"""The KServe SDK's inference clients, unmodified."""
import asyncio
import unittest

import numpy as np

import serving

try:
    import kserve
    from kserve.inference_client import InferenceGRPCClient
except ImportError as error:
    raise unittest.SkipTest(f"kserve is not installed: {error}")


class KServe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server()
        cls.url = "http://" + cls.server.http

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    @staticmethod
    def request(model, x, datatype="FP32", binary=True):
        tensor = kserve.InferInput(name="x", shape=list(x.shape), datatype=datatype)
        tensor.set_data_from_numpy(x, binary_data=binary)
        return kserve.InferRequest(model_name=model, infer_inputs=[tensor], request_id="9")

    def test_rest(self):
        async def run():
            config = kserve.RESTConfig(protocol="v2")
            async with kserve.InferenceRESTClient(config) as client:
                self.assertTrue(await client.is_server_live(self.url))
                self.assertTrue(await client.is_server_ready(self.url))
                self.assertTrue(await client.is_model_ready(self.url, "cnn"))
                x = np.random.default_rng(3).normal(size=(2, 1, 8, 8)).astype(np.float32)
                expected = serving.cnn_reference(self.server.root, x)
                for binary in (False, True):
                    answer = await client.infer(self.url, self.request("cnn", x, binary=binary),
                                                model_name="cnn")
                    self.assertEqual(answer.model_name, "cnn")
                    np.testing.assert_allclose(
                        answer.outputs[0].as_numpy().reshape(2, 10), expected, 1e-4, 1e-5)
                half = serving.sample("FP16")
                answer = await client.infer(self.url, kserve.InferRequest(
                    model_name="identity_FP16",
                    infer_inputs=self.request("identity_FP16", half, "FP16").inputs,
                    parameters={"binary_data_output": True}), model_name="identity_FP16")
                self.assertEqual(answer.outputs[0].as_numpy().tolist(), half.tolist())
                with self.assertRaises(Exception) as caught:
                    await client.infer(self.url, self.request("absent", x), model_name="absent")
                self.assertIn("404", str(caught.exception))
        asyncio.run(run())

    def test_grpc(self):
        async def run():
            async with InferenceGRPCClient(self.server.grpc) as client:
                self.assertTrue(await client.is_server_live())
                self.assertTrue(await client.is_server_ready())
                self.assertTrue(await client.is_model_ready("cnn"))
                for datatype in ("FP32", "INT8", "BYTES", "FP16"):
                    x = serving.sample(datatype)
                    for binary in (False, True):
                        if datatype in serving.NOT_AS_JSON and not binary:
                            continue
                        answer = await client.infer(
                            self.request("identity_" + datatype, x, datatype, binary))
                        self.assertEqual(answer.outputs[0].as_numpy().tolist(), x.tolist())
        asyncio.run(run())


if __name__ == "__main__":
    unittest.main()
