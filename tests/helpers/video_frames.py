"""What is on a film. (imageio's own reader leaves its pipes open, which is a warning.)"""

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from numpy.typing import NDArray


def frames(path: Path) -> tuple[float, NDArray[Any]]:
    """Frames a second, and the frames ``[n, height, width, 3]`` as whole numbers."""
    command = [get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    stream = re.search(r"Video: .* (\d+)x(\d+).* ([\d.]+) fps", done.stderr.decode())
    assert stream is not None
    width, height, fps = (float(number) for number in stream.groups())
    return fps, np.frombuffer(done.stdout, np.uint8).reshape(-1, int(height), int(width), 3).astype(int)
