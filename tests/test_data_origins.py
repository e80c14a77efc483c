from regimes import experiments
from regimes.data.origins import files_digest
from regimes.lab.stamps import data_digest


def test_data_that_are_read_have_digests_of_their_own_and_data_that_are_drawn_have_none():
    names = ("mnist", "cifar10", "cifar100", "digits")
    found = [files_digest(name) for name in names]
    assert len(set(found)) == 4
    assert all(len(one) == 16 for one in found)
    assert found == [files_digest(name) for name in names]
    assert files_digest("circles") is None


def test_the_data_of_an_experiment_are_those_that_its_settings_name():
    def of(name, **settings):
        return data_digest(experiments.load(name).Config(**settings), files_digest)

    assert of("low_energy_bias") != of("low_energy_bias", dataset="mnist") is not None
    assert of("least_action_is_ot", problem=["line"]) is None
    assert of("least_action_is_ot", problem=["line", "mnist"]) == of("low_energy_bias", dataset="mnist")
    assert of("lazy_rate") is None
