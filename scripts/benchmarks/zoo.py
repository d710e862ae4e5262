"""Times sb3-contrib's TRPO with RL Zoo's settings on Hopper-v5: ``python -m benchmarks.zoo STEPS`` prints seconds."""

import sys

from reproducing.controls import learn

if __name__ == "__main__":
    print(learn("Hopper-v5", "trpo", seed=0, steps=int(sys.argv[1])).wall_s)
