"""Where in an image a net found what it answers: Grad-CAM of the encoder's last maps."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate


def draw_heat(
    encoder: nn.Module,
    forward: Callable[[Tensor], Tensor],
    image: Float[Tensor, "..."],
    target: Tensor | int,
) -> Float[Tensor, "V H W"] | None:
    """Return what speaks for the target class in each image or slice, from 0; not normalised.

    Args:
        encoder: the part of the net, in evaluation mode, that makes maps of images `[V,C,H,W]`.
        forward: the whole net: `image` → logits `[B,K]`; it runs the encoder once.
        image: what `forward` takes; the last two axes are H and W.
        target: class of each of the B logits, or one for all.

    Returns:
        None where the encoder has no maps larger than one pixel.

    Reference:
        Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization, ICCV 2017, arXiv:1610.02391; computed by captum.
    """
    from captum.attr import LayerGradCam  # two seconds that a command without figures should save

    layer = find_maps(encoder, lambda: forward(image))
    if layer is None:
        return None
    chosen = torch.as_tensor(target, device=image.device).reshape(-1)
    with torch.enable_grad():
        heat: Tensor = LayerGradCam(forward, layer).attribute(
            image.detach().clone(), chosen, relu_attributions=True
        )
    return interpolate(heat.detach(), image.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def find_maps(encoder: nn.Module, run: Callable[[], Any]) -> nn.Module | None:
    """Return the last module of the encoder whose output is `[V,D,h,w]` with h·w above 1."""
    last: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            last[:] = [module]

    hooks = [module.register_forward_hook(note) for module in encoder.modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return last[0] if last else None
