import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from jaxgan import evaluate
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.normalise import Range
from jaxgan.data.pairs import Pairs

SIXTEEN_BIT = Range((0.0,), (4000.0,), "uint16")
EIGHT_BIT = Range((0.0,), (200.0,), "uint8")


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    source = rng.integers(0, 4000, (3, 20, 20)).astype(np.uint16)
    target = rng.integers(0, 255, (3, 20, 20)).astype(np.uint8)
    pairs = Pairs(ImageSet.from_arrays(source), ImageSet.from_arrays(target))
    return list(
        evaluate.predict_pairs(
            lambda image: np.full(image.shape, 0.5, np.float32),
            pairs,
            source_range=SIXTEEN_BIT,
            target_range=EIGHT_BIT,
        )
    )


def test_images_are_compared_in_the_range_of_the_networks(examples):
    for example in examples:
        assert -1 <= example.source.min() < example.source.max() <= 1
        # Brighter than its range: no network can reach it, nor should it count.
        assert example.target.max() == 1


def test_summary_is_the_mean_over_images(examples):
    means = evaluate.summary(examples)
    psnr = [
        skimage_metrics.peak_signal_noise_ratio(e.target, e.prediction, data_range=2)
        for e in examples
    ]
    assert means["psnr"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert set(means) == {
        *("psnr", "ssim", "nrmse"),
        *("input_psnr", "input_ssim", "input_nrmse"),
    }


def test_input_is_not_scored_where_channels_differ(examples):
    wider = [e._replace(source=np.repeat(e.source, 3, axis=-1)) for e in examples]
    assert set(evaluate.summary(wider)) == {"psnr", "ssim", "nrmse"}


def test_table_has_a_row_for_input_and_prediction():
    rows = evaluate.table({"psnr": 2.0, "input_psnr": 1.0})
    assert rows == {"input": {"psnr": 1.0}, "prediction": {"psnr": 2.0}}
