"""``python -m trpo_cli`` is ``trpo-train``: what torchrun starts."""

from trpo_cli.cli.train import train

if __name__ == "__main__":
    train()
