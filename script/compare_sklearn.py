"""Compares minim with scikit-learn, LightGBM and XGBoost on models they export to ONNX.

Each estimator is trained on seeded data and converted; minim runs the file. Numbers must agree to
1e-4 relative (of the largest magnitude of the output); of labels, and of rows of tree models, whose
float32 thresholds may send a row the other way, at most 0.1 % may differ.
"""
import os
import subprocess
import sys
import tempfile
import warnings

import lightgbm
import numpy as np
import onnxruntime as ort
import xgboost
from onnxmltools.convert import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as OmlFloats
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import (
    calibration, compose, discriminant_analysis, ensemble, feature_selection, impute, linear_model,
    multiclass, naive_bayes, neighbors, neural_network, pipeline, preprocessing, svm, tree)

warnings.filterwarnings("ignore")
minim = sys.argv[1]
only = sys.argv[2] if len(sys.argv) > 2 else ""
rng = np.random.default_rng(7)
FEATURES, ROWS = 8, 1200
x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
score = x[:, 0] - 0.7 * x[:, 1] * x[:, 2] + np.sin(2 * x[:, 3]) + 0.2 * rng.normal(size=ROWS)
y_number = score.astype(np.float32)
y_two = (score > 0).astype(np.int64)
y_many = np.digitize(score, [-1.0, 0.0, 1.0])
y_text = np.array(["low", "mid", "high", "top"])[y_many]
positive = np.abs(x)

TREES = dict(n_estimators=40, max_depth=5, random_state=1)
CLASSIFIERS = {
    "LogisticRegression": linear_model.LogisticRegression(),
    "LogisticRegressionCV": linear_model.LogisticRegressionCV(cv=3),
    "RidgeClassifier": linear_model.RidgeClassifier(),
    "SGDClassifier hinge": linear_model.SGDClassifier(random_state=1),
    "SGDClassifier log": linear_model.SGDClassifier(loss="log_loss", random_state=1),
    "Perceptron": linear_model.Perceptron(random_state=1),
    "LinearSVC": svm.LinearSVC(random_state=1),
    "SVC rbf": svm.SVC(),
    "SVC poly": svm.SVC(kernel="poly"),
    "SVC linear": svm.SVC(kernel="linear"),
    "SVC sigmoid": svm.SVC(kernel="sigmoid"),
    "NuSVC": svm.NuSVC(),
    "DecisionTreeClassifier": tree.DecisionTreeClassifier(max_depth=6, random_state=1),
    "ExtraTreeClassifier": tree.ExtraTreeClassifier(max_depth=6, random_state=1),
    "RandomForestClassifier": ensemble.RandomForestClassifier(**TREES),
    "ExtraTreesClassifier": ensemble.ExtraTreesClassifier(**TREES),
    "GradientBoostingClassifier": ensemble.GradientBoostingClassifier(n_estimators=30, random_state=1),
    "HistGradientBoostingClassifier": ensemble.HistGradientBoostingClassifier(max_iter=30),
    "AdaBoostClassifier": ensemble.AdaBoostClassifier(n_estimators=10, random_state=1),
    "BaggingClassifier": ensemble.BaggingClassifier(n_estimators=5, random_state=1),
    "VotingClassifier": ensemble.VotingClassifier(
        [("a", linear_model.LogisticRegression()), ("b", naive_bayes.GaussianNB())], voting="soft",
        flatten_transform=False),
    "StackingClassifier": ensemble.StackingClassifier(
        [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3))]),
    "GaussianNB": naive_bayes.GaussianNB(),
    "BernoulliNB": naive_bayes.BernoulliNB(),
    "KNeighborsClassifier": neighbors.KNeighborsClassifier(5),
    "MLPClassifier": neural_network.MLPClassifier(hidden_layer_sizes=(16,), max_iter=60, random_state=1),
    "LinearDiscriminantAnalysis": discriminant_analysis.LinearDiscriminantAnalysis(),
    "QuadraticDiscriminantAnalysis": discriminant_analysis.QuadraticDiscriminantAnalysis(),
    "CalibratedClassifierCV": calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), cv=2),
    "OneVsRestClassifier": multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
    "scaled LogisticRegression": pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression()),
    "selected RandomForest": pipeline.make_pipeline(
        feature_selection.SelectKBest(k=4), ensemble.RandomForestClassifier(**TREES)),
}
REGRESSORS = {
    "LinearRegression": linear_model.LinearRegression(),
    "Ridge": linear_model.Ridge(),
    "Lasso": linear_model.Lasso(alpha=0.01),
    "ElasticNet": linear_model.ElasticNet(alpha=0.01),
    "HuberRegressor": linear_model.HuberRegressor(),
    "PoissonRegressor": linear_model.PoissonRegressor(),
    "SGDRegressor": linear_model.SGDRegressor(random_state=1),
    "BayesianRidge": linear_model.BayesianRidge(),
    "SVR": svm.SVR(),
    "LinearSVR": svm.LinearSVR(random_state=1),
    "DecisionTreeRegressor": tree.DecisionTreeRegressor(max_depth=6, random_state=1),
    "RandomForestRegressor": ensemble.RandomForestRegressor(**TREES),
    "ExtraTreesRegressor": ensemble.ExtraTreesRegressor(**TREES),
    "GradientBoostingRegressor": ensemble.GradientBoostingRegressor(n_estimators=30, random_state=1),
    "HistGradientBoostingRegressor": ensemble.HistGradientBoostingRegressor(max_iter=30),
    "AdaBoostRegressor": ensemble.AdaBoostRegressor(n_estimators=10, random_state=1),
    "KNeighborsRegressor": neighbors.KNeighborsRegressor(5),
    "MLPRegressor": neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=60, random_state=1),
    "binned polynomial": pipeline.make_pipeline(
        preprocessing.MinMaxScaler(), preprocessing.PolynomialFeatures(2), linear_model.Ridge()),
}
TRANSFORMERS = {
    "StandardScaler": preprocessing.StandardScaler(),
    "MinMaxScaler": preprocessing.MinMaxScaler(),
    "MaxAbsScaler": preprocessing.MaxAbsScaler(),
    "RobustScaler": preprocessing.RobustScaler(),
    "Normalizer l1": preprocessing.Normalizer("l1"),
    "Normalizer l2": preprocessing.Normalizer("l2"),
    "Binarizer": preprocessing.Binarizer(),
    "PolynomialFeatures": preprocessing.PolynomialFeatures(2),
    "KBinsDiscretizer": preprocessing.KBinsDiscretizer(4, encode="onehot-dense"),
    "SimpleImputer": impute.SimpleImputer(),
}


class Check:
    def __init__(self, work):
        self.work, self.passed, self.failed, self.skipped = work, 0, 0, 0

    def run(self, model, inputs):
        path = f"{self.work}/model.onnx"
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
        arguments = [minim, "run", path, "--output-dir", self.work]
        for name, value in inputs.items():
            np.save(f"{self.work}/in_{name}.npy", value)
            arguments += ["--input", f"{name}={self.work}/in_{name}.npy"]
        done = subprocess.run(arguments, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return [np.load(f"{self.work}/{o.name.replace('/', '_')}.npy") for o in model.graph.output]

    def report(self, name, problem):
        if problem:
            self.failed += 1
            print(f"FAILED {name}: {problem}")
        else:
            self.passed += 1

    def one(self, name, build, inputs, expected):
        if only and only not in name:
            return
        try:
            model = build()
        except Exception as error:  # the converter's own limits
            self.skipped += 1
            print(f"skipped {name}: not converted: {str(error).splitlines()[0][:100]}")
            return
        try:
            got = self.run(model, inputs)
        except Exception as error:
            self.report(name, str(error)[:300])
            return
        problem = first_mismatch(got, expected)
        if problem and not first_mismatch(got, runtime_answers(model, inputs)):
            self.skipped += 1
            print(f"skipped {name}: the converted file means something else, in ONNX Runtime too: {problem}")
            return
        self.report(name, problem)


def runtime_answers(model, inputs):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {k: v.astype(object) if v.dtype.kind == "U" else v for k, v in inputs.items()}
    return [np.asarray(value) for value in session.run(None, inputs)]


def first_mismatch(ours, theirs):
    return next(filter(None, (mismatch(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs))), "")


def mismatch(ours, theirs):
    if theirs.dtype.kind in "USOib":
        same = (ours.reshape(-1) == theirs.reshape(-1)).mean()
        return "" if same >= 0.999 else f"{same:.2%} of labels agree"
    ours = ours.reshape(theirs.shape).astype(np.float64)
    bound = 1e-4 * max(np.abs(theirs).max(), 1e-6)
    rows = np.abs(ours - theirs).reshape(len(theirs), -1).max(1)
    wrong = (~(rows <= bound)).mean()
    return "" if wrong <= 0.001 else f"{wrong:.2%} of rows differ, by up to {np.nanmax(rows):.3g}"


def floats():
    return [("x", FloatTensorType([None, FEATURES]))]


def zipmap_option(estimator):
    return None if isinstance(estimator, svm.LinearSVC) else {"zipmap": False}


def to_onnx(estimator, types, options=None):
    return convert_sklearn(estimator, initial_types=types, options=options, target_opset=21)


def classifiers(check):
    for target_name, target in (("two classes", y_two), ("four classes", y_many), ("texts", y_text)):
        for name, estimator in CLASSIFIERS.items():
            if target is y_text and name not in ("LogisticRegression", "SVC rbf", "RandomForestClassifier"):
                continue
            estimator.fit(x, target)
            expected = [estimator.predict(x)]
            if hasattr(estimator, "predict_proba"):
                expected.append(estimator.predict_proba(x))
            check.one(f"{name}, {target_name}",
                      lambda e=estimator: to_onnx(e, floats(), zipmap_option(e)), {"x": x}, expected)


def numbers(check):
    for name, estimator in REGRESSORS.items():
        target = np.exp(y_number / 3) if name == "PoissonRegressor" else y_number
        estimator.fit(x, target)
        check.one(name, lambda e=estimator: to_onnx(e, floats()), {"x": x},
                  [estimator.predict(x).reshape(-1, 1)])
    for name, estimator in TRANSFORMERS.items():
        values = x.copy()
        if name == "SimpleImputer":
            values[::7, 2] = np.nan
        estimator.fit(values)
        check.one(name, lambda e=estimator: to_onnx(e, floats()), {"x": values},
                  [estimator.transform(values)])


def texts(check):
    colours = np.array(["red", "green", "blue"])[rng.integers(0, 3, ROWS)].reshape(-1, 1)
    one_hot = preprocessing.OneHotEncoder(sparse_output=False).fit(colours)
    types = [("c", StringTensorType([None, 1]))]
    check.one("OneHotEncoder", lambda: to_onnx(one_hot, types), {"c": colours},
              [one_hot.transform(colours)])
    ordinal = preprocessing.OrdinalEncoder().fit(colours)
    check.one("OrdinalEncoder", lambda: to_onnx(ordinal, types), {"c": colours},
              [ordinal.transform(colours).astype(np.float32)])


def boosting(check):
    for name, target in (("two classes", y_two), ("four classes", y_many)):
        booster = lightgbm.LGBMClassifier(n_estimators=30, verbose=-1).fit(x, target)
        check.one(f"LightGBM, {name}",
                  lambda: convert_lightgbm(booster, initial_types=[("x", OmlFloats([None, FEATURES]))],
                                           zipmap=False, target_opset=15),
                  {"x": x}, [booster.predict(x), booster.predict_proba(x)])
        gradient = xgboost.XGBClassifier(n_estimators=30, max_depth=4).fit(x, target)
        check.one(f"XGBoost, {name}",
                  lambda: convert_xgboost(gradient, initial_types=[("x", OmlFloats([None, FEATURES]))],
                                          target_opset=15),
                  {"x": x}, [gradient.predict(x), gradient.predict_proba(x)])
    missing = x.copy()
    missing[::5, 1] = np.nan
    booster = lightgbm.LGBMRegressor(n_estimators=30, verbose=-1).fit(missing, y_number)
    check.one("LightGBM regression with gaps",
              lambda: convert_lightgbm(booster, initial_types=[("x", OmlFloats([None, FEATURES]))],
                                       target_opset=15),
              {"x": missing}, [booster.predict(missing).reshape(-1, 1)])
    gradient = xgboost.XGBRegressor(n_estimators=30, max_depth=4).fit(missing, y_number)
    check.one("XGBoost regression with gaps",
              lambda: convert_xgboost(gradient, initial_types=[("x", OmlFloats([None, FEATURES]))],
                                      target_opset=15),
              {"x": missing}, [gradient.predict(missing).reshape(-1, 1)])


with tempfile.TemporaryDirectory() as work:
    check = Check(work)
    for part in (classifiers, numbers, texts, boosting):
        part(check)
    print(f"scikit-learn, LightGBM, XGBoost: {check.passed} agree, {check.failed} failed, "
          f"{check.skipped} skipped")
sys.exit(check.failed > 0)
