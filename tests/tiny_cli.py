"""The command line on a tiny data set: started by tests, and imported again by each worker process."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]


def use_tiny_data():
    from cifar_format import tiny_dataset

    from empirical.study import grid as study

    def load(name, data_dir, device, *, limit_train=None, limit_test=None):
        return tiny_dataset(320).limited(limit_train, limit_test).to(device)

    study.load_dataset = load


if __name__ in ("__main__", "__mp_main__"):  # not where a search for doctests imports it
    use_tiny_data()

if __name__ == "__main__":
    import cli

    sys.exit(cli.main(sys.argv[1:]))
