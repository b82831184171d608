"""What tritonclient's HTTP and gRPC clients must see alike; see test_tritonclient.py."""
import numpy as np
from tritonclient.utils import InferenceServerException

import serving


class ClientChecks:
    """Mixed into a TestCase that sets `api` (the module) and `url`."""

    @classmethod
    def setUpClass(cls):
        cls.server = serving.Server()
        cls.client = cls.api.InferenceServerClient(cls.url(cls.server))

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        assert cls.server.stop() == 0

    def input(self, name, array, datatype):
        tensor = self.api.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor

    def ask(self, model, array, datatype="FP32", **options):
        return self.client.infer(model, [self.input("x", array, datatype)], **options)

    def refused(self, status, words, call, *args, **options):
        with self.assertRaises(InferenceServerException) as caught:
            call(*args, **options)
        self.assertIn(status, str(caught.exception.status()), caught.exception)
        self.assertIn(words, caught.exception.message())

    def test_health(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("cnn"))
        self.assertTrue(self.client.is_model_ready("cnn", "1"))
        self.assertFalse(self.client.is_model_ready("absent"))

    def test_binary_tensors_of_every_datatype(self):
        for datatype in serving.DTYPES:
            with self.subTest(datatype):
                x = serving.sample(datatype)
                y = self.ask("identity_" + datatype, x, datatype).as_numpy("y")
                self.assertEqual(y.dtype, x.dtype)
                self.assertEqual(y.tolist(), x.tolist())

    def test_several_inputs_and_chosen_outputs(self):
        a = np.arange(8, dtype=np.int32).reshape(2, 4)
        b = np.full((2, 4), 5, np.int32)
        inputs = [self.input("b", b, "INT32"), self.input("a", a, "INT32")]
        both = self.client.infer("add_sub", inputs, request_id="17")
        self.assertEqual(both.as_numpy("sum").tolist(), (a + b).tolist())
        self.assertEqual(both.as_numpy("difference").tolist(), (a - b).tolist())
        one = self.client.infer("add_sub", inputs,
                                outputs=[self.api.InferRequestedOutput("difference")])
        self.assertIsNone(one.as_numpy("sum"))
        self.assertEqual(one.as_numpy("difference").tolist(), (a - b).tolist())

    def test_cnn_answers_as_onnxruntime(self):
        x = np.random.default_rng(2).normal(size=(5, 1, 8, 8)).astype(np.float32)
        np.testing.assert_allclose(self.ask("cnn", x).as_numpy("scores"),
                                   serving.cnn_reference(self.server.root, x), 1e-4, 1e-5)

    def test_shapes(self):
        for rows, width in ((1, 1), (3, 7), (2, 300)):
            y = self.ask("softmax", np.zeros((rows, width), np.float32)).as_numpy("y")
            np.testing.assert_allclose(y, np.full((rows, width), 1 / width), 1e-5)
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        self.assertEqual(self.ask("fixed", x).as_numpy("y").tolist(), (-x).tolist())
        self.assertEqual(self.ask("with blank", x).as_numpy("y").tolist(), (-x).tolist())

    def test_request_parameters(self):
        x = np.full((1, 3), 0.5, np.float32)
        y = self.ask("identity_FP32", x, priority=1, timeout=10**7,
                     parameters={"use_cache": False, "use_batching": False, "anything": "else"})
        self.assertEqual(y.as_numpy("y").tolist(), x.tolist())
        self.refused(self.unsupported, "sequence", self.ask, "identity_FP32", x, sequence_id=3)

    def test_deadlines(self):
        self.refused(self.late, "timeout", self.ask, "cnn", np.zeros((1, 1, 8, 8), np.float32),
                     timeout=1, parameters={"use_cache": False})

    def test_errors(self):
        x = np.zeros((1, 3), np.float32)
        self.refused(self.not_found, "absent", self.ask, "absent", x)
        self.refused(self.not_found, "9", self.ask, "cnn", x, model_version="9")
        self.refused(self.invalid, "shape", self.ask, "identity_FP32", np.zeros((1, 4), np.float32))
        self.refused(self.invalid, "shape", self.ask, "identity_FP32", np.zeros((0, 3), np.float32))
        self.refused(self.invalid, "datatype", self.ask, "identity_FP32", x.astype(np.int8), "INT8")
        self.refused(self.invalid, "'q'", self.client.infer, "identity_FP32",
                     [self.input("q", x, "FP32")])
        self.refused(self.invalid, "'b'", self.client.infer, "add_sub",
                     [self.input("a", np.zeros((1, 4), np.int32), "INT32")])
        self.refused(self.invalid, "'nope'", self.ask, "identity_FP32", x,
                     outputs=[self.api.InferRequestedOutput("nope")])
        self.refused(self.unsupported, "classification", self.ask, "identity_FP32", x,
                     outputs=[self.api.InferRequestedOutput("y", class_count=2)])
        wrong = self.input("x", x, "FP32")
        wrong.set_shape([2, 3])
        self.refused(self.invalid, "shape [2,3]", self.client.infer, "identity_FP32", [wrong])
        self.assertEqual(self.ask("identity_FP32", x).as_numpy("y").tolist(), x.tolist())

    def test_load_and_unload(self):
        x = np.ones((1, 3), np.float32)
        self.client.unload_model("with blank")
        self.assertFalse(self.client.is_model_ready("with blank"))
        self.refused(self.not_found, "with blank", self.ask, "with blank", x)
        self.client.load_model("with blank")
        self.assertTrue(self.client.is_model_ready("with blank"))
        self.assertEqual(self.ask("with blank", x).as_numpy("y").tolist(), (-x).tolist())
        self.refused(self.not_found, "absent", self.client.load_model, "absent")

    def test_compression_both_ways(self):
        x = np.zeros((4, 3000), np.float32)
        expected = np.full(x.shape, 1 / 3000, np.float32).tolist()
        for options in self.compressions:
            with self.subTest(options):
                y = self.ask("softmax", x, **options).as_numpy("y")
                np.testing.assert_allclose(y, expected, 1e-5)
