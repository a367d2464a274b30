"""The driver of the parallel comparison: what it returns, writes and refuses."""

import dataclasses

import matplotlib.image
import numpy as np
import pytest

from experiments import tw_batch
from jaxnas.benchmarks import named

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = tw_batch.Config(
    methods=("random", "evolution"), batches=(1, 4), seeds=2, evaluations=22, init=6
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "out"
    return out, tw_batch.main(dataclasses.replace(SMALL, out=str(out)))


def test_every_method_is_run_with_every_batch_size(done):
    out, arrays = done
    column = named.open_table("analog").columns["cifar10/test/200"]
    labels = {name.split("/")[0] for name in arrays}
    assert labels == {"random-x1", "random-x4", "evolution-x1", "evolution-x4"}
    for label in labels:
        row = arrays[f"{label}/row"]
        # 22 evaluations of 24 in 6 batches of 4.
        assert row.shape == arrays[f"{label}/score"].shape == (2, 22)
        np.testing.assert_array_equal(arrays[f"{label}/score"], column[row])
        assert (row[0] != row[1]).any()
    assert (arrays["random-x1/row"] != arrays["random-x4/row"]).any()
    image = matplotlib.image.imread(out / "curves.png")
    assert image[..., :3].std() > 0.01


def test_other_methods_and_batches_join_the_same_folder(done):
    out, arrays = done
    config = dataclasses.replace(SMALL, batches=(4, 11), methods=("random",))
    again = tw_batch.main(dataclasses.replace(config, out=str(out)))
    np.testing.assert_array_equal(again["random-x4/row"], arrays["random-x4/row"])
    assert again["random-x11/row"].shape == (2, 22)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"batches": ()},
            "--batches must be between 1 and --evaluations = 22, not none",
        ),
        ({"batches": (0, 5)}, "--batches must be between 1 .*, not 0 5"),
        ({"batches": (23,)}, "--batches must be between 1 and .* 22, not 23"),
        ({"methods": ("gp-tw",)}, "no method gp-tw: choose from random, evolution"),
        ({"dataset": "mnist"}, "mnist"),
        ({"init": 23}, "--init must be at most --evaluations = 22, not 23"),
        ({"report_epochs": 0}, "0"),
        (
            {"methods": ("random", "kdpp"), "batches": (201,), "evaluations": 300},
            "a shortlist of 200 has no batch of 201",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, change, said):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=said) as caught:
        tw_batch.main(dataclasses.replace(SMALL, out=str(out), **change))
    assert "\n" not in str(caught.value) and not out.exists()


def test_a_gaussian_process_in_batches_learns(tmp_path):
    name = "kdpp"
    config = dataclasses.replace(
        SMALL, methods=(name, "random"), batches=(5,), seeds=4, evaluations=40
    )
    arrays = tw_batch.main(dataclasses.replace(config, out=str(tmp_path)))
    guided, blind = (
        np.median(arrays[f"{n}-x5/score"][:, 20:]) for n in (name, "random")
    )
    assert guided > blind + 1  # percent
    for row in arrays[f"{name}-x5/row"]:
        assert len(set(row)) == 40
