"""The scikit-learn estimator: conformance, quality, pickles and grid search."""

import io
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import reprkit as rk
from reprkit.sklearn import OutlierDetector, Representation

SMALL = {"encoder": "mlp(widths=(64,))", "decoder": "mlp(widths=(64,))"}


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x, y, test_size=0.25, random_state=0)


@pytest.fixture(scope="module")
def fitted(digits):
    return Representation(**SMALL, steps=150, random_state=0).fit(digits[0])


@pytest.mark.slow
def test_scikit_learn_s_own_checks_pass():
    found = check_estimator(Representation(**SMALL, steps=10), on_fail=None)
    assert [each["check_name"] for each in found if each["status"] == "failed"] == []
    # Left out by scikit-learn itself, unless an environment variable turns array libraries on.
    assert {e["check_name"] for e in found if e["status"] == "skipped"} <= {"check_array_api_input"}
    assert sum(each["status"] == "passed" for each in found) > 40


def test_a_classifier_in_a_pipeline_reads_the_labels(digits):
    x, x_test, y, y_test = digits
    pipeline = make_pipeline(
        StandardScaler(), Representation(**SMALL, steps=200, random_state=0), LogisticRegression(max_iter=500)
    )
    assert pipeline.fit(x, y).score(x_test, y_test) > 0.8  # chance is 0.1


def test_eight_dimensions_reconstruct_better_than_pca_of_two(digits, fitted):
    x, x_test, _, _ = digits
    codes = fitted.transform(x_test)
    assert codes.shape == (len(x_test), 8)
    assert codes.dtype == x_test.dtype
    again = fitted.inverse_transform(codes)
    assert again.shape == x_test.shape
    pca = PCA(2).fit(x)
    error = np.square(again - x_test).sum(1).mean()
    assert error < 0.75 * np.square(pca.inverse_transform(pca.transform(x_test)) - x_test).sum(1).mean()
    assert 0.3 < fitted.score(x_test) < 1
    assert fitted.score(np.tile(fitted.mean_, (4, 1)) + np.eye(4, 64)) < fitted.score(x_test)


def test_a_row_s_code_does_not_depend_on_other_rows(digits, fitted):
    rows = digits[1]
    whole = fitted.transform(rows)
    for size in (1, 7, 300):
        assert np.array_equal(fitted.transform(rows[:size]), whole[:size])


def test_equal_seeds_give_equal_fits_and_leave_torch_s_random_state(digits):
    x = digits[0][:100]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = (Representation(**SMALL, steps=5, random_state=3).fit(x) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(one.transform(x), other.transform(x))
    another = Representation(**SMALL, steps=5, random_state=4).fit(x)
    assert not np.allclose(one.transform(x), another.transform(x))


@pytest.mark.parametrize("carry", ["pickle", "joblib"])
def test_pickles_hold_json_and_safetensors(digits, fitted, carry):
    file = io.BytesIO()
    if carry == "pickle":
        pickle.dump(fitted, file)
    else:
        joblib.dump(fitted, file)
    assert b'"reprkit/mlp"' in file.getvalue()
    file.seek(0)
    loaded = pickle.load(file) if carry == "pickle" else joblib.load(file)
    assert np.array_equal(loaded.transform(digits[1]), fitted.transform(digits[1]))
    assert isinstance(loaded.model_, rk.Model)
    assert clone(loaded).get_params() == fitted.get_params()
    with pytest.raises(AttributeError):
        _ = clone(loaded).model_


def test_names_and_frames(digits):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(digits[0][:60, :5], columns=list("abcde"))
    model = Representation("gaussian(dim=2)", **SMALL, steps=3).set_output(transform="pandas").fit(frame)
    assert list(model.feature_names_in_) == list("abcde")
    assert list(model.get_feature_names_out()) == ["representation0", "representation1"]
    assert list(model.transform(frame).columns) == ["representation0", "representation1"]
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame.rename(columns={"a": "z"}))


def test_a_grid_search_over_latents(digits):
    x, _, y, _ = digits
    steps = Pipeline(
        [
            ("code", Representation(**SMALL, steps=30, random_state=0)),
            ("read", LogisticRegression(max_iter=300)),
        ]
    )
    search = GridSearchCV(steps, {"code__latent": ["continuous(dim=1)", "continuous(dim=16)"]}, cv=2)
    assert search.fit(x[:400], y[:400]).best_params_ == {"code__latent": "continuous(dim=16)"}


@pytest.mark.parametrize(
    "latent", ["gaussian(dim=3)", "binary(bits=6)", "one-hot(classes=4, groups=2)", "vq(codes=8, dim=4)"]
)
def test_any_latent(latent):
    rows = np.random.default_rng(0).normal(size=(5, 3)) * [1, 1e-3, 0] + 7  # few rows, a constant feature
    model = Representation(latent, **SMALL, steps=5, random_state=0).fit(rows.astype(np.float32))
    codes = model.transform(rows.astype(np.float32))
    assert codes.dtype == np.float32
    again = model.inverse_transform(codes)
    assert again.shape == (5, 3)
    assert np.isfinite(again).all()
    assert model.scale_[2] == 1


def test_invalid_input_raises(digits, fitted):
    with pytest.raises(rk.ReprkitError, match="Did you mean 'gaussian'"):
        Representation("gausian(dim=2)").fit(digits[0])
    with pytest.raises(ValueError, match="X has 3 columns, but transform gives 8"):
        fitted.inverse_transform(np.zeros((2, 3)))


def test_importing_reprkit_does_not_import_scikit_learn():
    code = (
        "import sys, reprkit; assert 'sklearn' not in sys.modules; "
        "import reprkit.sklearn, sklearn; print(sklearn.__name__, sklearn.clone)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("sklearn <function clone")


def customers(count=120):
    import pandas as pd

    rng = np.random.default_rng(1)
    plan = rng.choice(["basic", "pro"], count)
    frame = pd.DataFrame(
        {
            "income": np.where(plan == "pro", 90_000.0, 30_000.0) + rng.normal(0, 2_000, count),
            "plan": plan,
            "since": pd.date_range("2020-01-01", periods=count),
            "class": rng.integers(1, 4, count),
        }
    )
    frame.loc[3, "income"] = None
    return frame


def test_frames_with_categories_dates_and_gaps():
    frame = customers()
    model = Representation("continuous(dim=3)", **SMALL, steps=60, lr=1e-2, random_state=0)
    model.set_output(transform="pandas")
    codes = model.fit(frame).transform(frame)
    assert list(codes.columns) == list(model.get_feature_names_out())
    assert codes.index.equals(frame.index)
    assert list(model.feature_names_in_) == list(frame)
    again = model.inverse_transform(codes)
    assert list(again) == list(frame)
    assert (again["plan"] == frame["plan"]).mean() > 0.9
    assert not again.isna().any(axis=None)
    assert 0.3 < model.score(frame) < 1
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.transform(frame[:5]), codes[:5])
    with pytest.raises(rk.ReprkitError, match="classes that the model did not learn, in 'plan'"):
        model.transform(frame.assign(plan="gold"))
    with pytest.raises(
        ValueError, match="was fitted on a DataFrame with the columns income, plan, since, class"
    ):
        model.transform(np.zeros((2, 4)))


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["nll", "error"])
def test_scikit_learn_s_checks_of_outlier_detectors_pass(measure):
    found = check_estimator(OutlierDetector(**SMALL, steps=10, measure=measure), on_fail=None)
    assert [(each["check_name"], each["exception"]) for each in found if each["status"] == "failed"] == []
    assert sum(each["status"] == "passed" for each in found) > 40


@pytest.mark.slow
def test_outliers_are_found_beyond_the_quantile():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(600, 2)) @ rng.normal(size=(2, 10)) + 0.05 * rng.normal(size=(600, 10))).astype(
        np.float32
    )
    detector = OutlierDetector("continuous(dim=2)", **SMALL, steps=400, quantile=0.9, random_state=0).fit(x)
    assert len(detector.held_out_) == 120
    held = detector.predict(x[detector.held_out_])
    assert (held == -1).mean() == pytest.approx(0.1, abs=0.01)
    far = x + rng.normal(size=x.shape).astype(np.float32)
    assert (detector.predict(far) == -1).mean() > 0.95
    np.testing.assert_allclose(detector.decision_function(x), detector.score_samples(x) - detector.offset_)
    frame = customers()
    mixed = OutlierDetector("continuous(dim=2)", **SMALL, steps=100, random_state=0).fit(frame)
    assert mixed.score_samples(frame.assign(income=1e6)).max() < mixed.offset_
    loaded = pickle.loads(pickle.dumps(mixed))
    np.testing.assert_array_equal(loaded.predict(frame), mixed.predict(frame))


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["nll", "error"])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_columns_of_a_row_add_up_to_its_score(measure, mixed):
    frame = (
        customers()
        if mixed
        else pd.DataFrame(np.random.default_rng(0).normal(5, 3, (300, 4)), columns=list("abcd"))
    )
    detector = OutlierDetector("continuous(dim=2)", **SMALL, steps=10, measure=measure, random_state=0).fit(
        frame
    )
    found = detector.contributions(frame)
    assert found.shape == frame.shape
    np.testing.assert_allclose(found.sum(1), -detector.score_samples(frame), rtol=1e-5)
    why = detector.explain(frame.head(3), top=2)
    assert why["row"].tolist() == [0, 0, 1, 1, 2, 2]
    assert set(why["column"]) <= set(frame)
    for each in why.itertuples():
        assert each.contribution == pytest.approx(found[each.row, list(frame).index(each.column)], rel=1e-5)
        if not mixed:
            assert each.value == frame[each.column][each.row]
            assert abs(each.expected - 5) < 9  # in the rows' units


def test_wrong_settings_of_outlier_detectors():
    rows = np.zeros((5, 2))
    for settings, text in (
        ({"quantile": 1.0}, "quantile lies between 0 and 1"),
        ({"measure": "distance"}, "measure is 'nll' or 'error'"),
    ):
        with pytest.raises(ValueError, match=text):
            OutlierDetector(**settings).fit(rows)
    with pytest.raises(ValueError, match="needs 3 rows"):
        OutlierDetector().fit(rows[:2])
