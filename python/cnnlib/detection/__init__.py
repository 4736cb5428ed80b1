"""Objects in images: boxes, classes, masks and key points from networks of the YOLO family.

:func:`detect` does all of it. Its parts can be called by themselves: :func:`letterbox` brings an image to the
network's size, :func:`decode` reads boxes from its output, :func:`non_max_suppression` keeps one for each
object, :func:`mask_of` computes a mask; :mod:`cnnlib.naive.detection` has each as a loop. :func:`draw` draws
the objects.
"""

from cnnlib.detection.decoding import Candidates, decode
from cnnlib.detection.detecting import Detector, detect
from cnnlib.detection.drawing import draw
from cnnlib.detection.head import DetectionHead
from cnnlib.detection.letterboxing import Placement, letterbox
from cnnlib.detection.masks import MaskPart, MaskParts, mask_of
from cnnlib.detection.objects import Detections
from cnnlib.detection.suppression import non_max_suppression

__all__ = ["Candidates", "DetectionHead", "Detections", "Detector", "MaskPart", "MaskParts"]
__all__ += ["Placement", "decode", "detect", "draw", "letterbox", "mask_of", "non_max_suppression"]
