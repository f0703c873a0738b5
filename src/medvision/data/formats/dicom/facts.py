"""What may be told of a DICOM header: a closed list of facts, none of which can name anyone.

A header can hold a name in any of its texts, also where a model of scanner belongs. So words are
not filtered but recognised: a text that is made of other words than those listed here is dropped.
"""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pydicom import Dataset

T = TypeVar("T")

LENGTH = 64
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The defined terms of PS3.3 C.7.3.1.1.1 (Modality), C.8.1 and C.8.7 ff. (ViewPosition), C.7.6.3.1.2
# (PhotometricInterpretation), PS3.16 Annex L (BodyPartExamined), and the makers' own names.
_MODALITIES = _words_of(
    "AR AS BDUS BI BMD CR CT DG DX ECG EPS ES GM HD IO IVOCT IVUS KER LEN LS MG MR NM OAM OCT OP "
    "OPM OPT OPTBSV OPTENF OPV OT PA PT PX REG RF RG RTDOSE RTIMAGE SC SEG SM SRF TG US VA XA XC "
    "CF DF FA FS VF DS DD CD"
)
VIEWS = _words_of(
    "AP PA LL RL RLD LLD RLO LLO LAO RAO LPO RPO LATERAL LAT LEFT RIGHT OBLIQUE CC MLO ML LM LMO "
    "XCCL XCCM XCC FB SIO ISO CV SPECIMEN TAN SUPINE PRONE ERECT DECUBITUS AXIAL SKYLINE"
)
_PHOTOMETRIC = _words_of(
    "MONOCHROME1 MONOCHROME2 PALETTE COLOR RGB YBR FULL 422 ICT RCT PARTIAL 420 HSV ARGB CMYK XYB"
)
MAKERS = _words_of(
    "AGFA AGFA-GEVAERT ALOKA BARCO BRAINLAB CANON CARESTREAM ZEISS MEDITEC ELSCINT ESAOTE "
    "FUJI FUJIFILM PHOTO FILM GE HEALTHCARE MEDICAL SYSTEMS SYSTEM HEALTH HITACHI HOLOGIC IMAGING "
    "KODAK EASTMAN KONICA MINOLTA KONICAMINOLTA LODOX LUMISYS MARCONI MINDRAY NEUSOFT NIDEK "
    "NIKON OLYMPUS OPTOVUE HEIDELBERG ENGINEERING PHILIPS PICKER SAMSUNG MEDISON ELECTRONICS "
    "SHIMADZU SIEMENS HEALTHINEERS SONOSITE SUPERSONIC IMAGINE SWISSRAY TOPCON TOSHIBA MEC TRIXELL "
    "UNITED UIH VAREX VARIAN VIDAR ZONARE LTD LTD. INC INC. CORP CORP. CORPORATION "
    "CO CO. GMBH AG KG B.V. S.P.A. COMPANY DIGITAL NUCLEAR ULTRASOUND X-RAY RADIOLOGY"
)
_BODY_PARTS = _words_of(
    "ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM ARTERY AXILLA BACK BLADDER BODY BONE BRAIN "
    "BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN "
    "CHESTABDPELVIS CIRCLE OF WILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE C-SPINE "
    "CTSPINE DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT FOREARM "
    "GALLBLADDER HAND HEAD HEADNECK HEART HIP HUMERUS IAC ILEUM ILIUM JAW JEJUNUM JOINT KIDNEY "
    "KNEE LARYNX LEG LIVER LOWER UPPER LEFT RIGHT BOTH LSPINE L-SPINE LSSPINE LUMBAR LUNG MAXILLA "
    "MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS "
    "PAROTID PATELLA PELVIS PENIS PHARYNX PROSTATE RADIUS RECTUM RIB SACRUM SCALP SCAPULA SCLERA "
    "SCROTUM SHOULDER SKIN SKULL SPINE SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH "
    "THORAX THUMB THYMUS THYROID TIBIA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE T-SPINE ULNA URETER "
    "URETHRA UTERUS VAGINA VULVA WHOLEBODY WHOLE WRIST ZYGOMA RETINA TEETH TOOTH MANDIBLE"
)


def read_header_facts(header: Dataset) -> dict[str, str]:
    """Tell modality, view, maker, spacing and the like; what is missing, odd or unknown is "".

    Spacings are in mm: `spacing_from` is the attribute they were taken from, and
    ImagerPixelSpacing is measured at the detector, not in the patient. `burned_in` says why the
    pixels may show text: `annotation`, `secondary capture` or `ultrasound`. The enhanced files'
    spacing comes with `header_of_frame`.

    Reference: DICOM PS3.15 E.1 (which attributes identify), PS3.3 10.7.1.3 (spacings).
    """
    spacing_y, spacing_x, taken_from = _spacing(header)
    return {
        "modality": _words(header, "Modality", _MODALITIES),
        "view": _words(header, "ViewPosition", VIEWS),
        "laterality": _laterality(header),
        "manufacturer": _words(header, "Manufacturer", MAKERS),
        "body_part": _words(header, "BodyPartExamined", _BODY_PARTS),
        "photometric": _words(header, "PhotometricInterpretation", _PHOTOMETRIC),
        "spacing_y_mm": spacing_y,
        "spacing_x_mm": spacing_x,
        "spacing_from": taken_from,
        "slice_thickness_mm": _millimetres(_safely(lambda: header.get("SliceThickness"), None)),
        "burned_in": _safely(lambda: _burned_in(header), ""),
    }


def _words(header: Dataset, name: str, known: frozenset[str]) -> str:
    """Return the text of an attribute, cut to 64 characters, if all its words are known."""
    text = " ".join(_safely(lambda: str(header.get(name) or ""), "").replace(",", " ").split())
    words = {word for word in re.split(r"[ /+_]", text.upper()) if word}
    return text[:LENGTH].strip() if words and words <= known else ""


def _laterality(header: Dataset) -> str:
    sides = frozenset("LRUB")
    return _words(header, "ImageLaterality", sides) or _words(header, "Laterality", sides)


def _spacing(header: Dataset) -> tuple[str, str, str]:
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        pair: list[object] = _safely(partial(_pair, header, name), [])
        y, x = map(_millimetres, pair) if len(pair) == 2 else ("", "")
        if y and x:
            return y, x, name
    return "", "", ""


def _pair(header: Dataset, name: str) -> list[object]:
    return list(header.get(name) or [])


def _millimetres(value: object) -> str:
    """Return a length that a distance can have, in mm; zero, negative or endless is none."""
    length = _safely(lambda: float(str(value)), 0.0)
    return repr(length) if math.isfinite(length) and length > 0 else ""


def _burned_in(header: Dataset) -> str:
    if str(header.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        return "annotation"
    meta = getattr(header, "file_meta", None) or {}
    kind = str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    if kind == _SECONDARY_CAPTURE or kind.startswith(f"{_SECONDARY_CAPTURE}."):
        return "secondary capture"
    return "ultrasound" if header.get("SequenceOfUltrasoundRegions") else ""


def _safely(tell: Callable[[], T], otherwise: T) -> T:
    """Read what a damaged header may refuse with any exception; it then says nothing."""
    try:
        return tell()
    except Exception:
        return otherwise
