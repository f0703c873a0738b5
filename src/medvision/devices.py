"""Which devices the settings of a Trainer take, and how much of a CPU."""

from omegaconf import DictConfig

from medvision.errors import MedvisionError


def limit_threads(threads: int | None) -> None:
    """Let torch work in so many threads on a CPU; None: as the machine has them.

    Raises:
        MedvisionError: it is no whole number from 1.
    """
    import torch

    if threads is None:
        return
    if type(threads) is not int or threads < 1:
        raise MedvisionError(f"threads={threads} must be a whole number from 1")
    torch.set_num_threads(threads)


def takes_gpu(accelerator: str) -> bool:
    """Whether Lightning takes a GPU of CUDA or ROCm for this word."""
    import torch

    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def takes_several(config: DictConfig) -> bool:
    """Tell a run of several processes from the usual one."""
    devices = config.trainer.devices
    if devices in ("auto", -1, "-1"):
        import torch

        return config.trainer.accelerator != "cpu" and torch.cuda.device_count() > 1
    listed = str(devices).strip("[]").split(",")
    count = len(listed) if len(listed) > 1 or not isinstance(devices, int) else devices
    return count > 1 or config.trainer.num_nodes > 1
