"""What a run keeps while it trains: checkpoints, and the resume state that knows which of them are finished.

The order is chunks, digests, finished epochs (`EpochWriter.write`), then the state; nothing trains past a state that
would forget a checkpoint.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpipe.stores.zarr import EpochWriter
from ncpipe.train.background import Background, HostCopy
from ncpipe.train.files import RunFiles
from ncpipe.train.keep import Keep
from ncpipe.train.splits import Split
from ncpipe.train.state import save_state
from ncpipe.train.trainer import Trainer


class Saver:
    """Writes one run's checkpoints and states, either at once or, given a `background`, beside the training.

    Parameters
    ----------
    run, trainer, keep, writer : RunFiles, Trainer, Keep, EpochWriter
    environment : dict
        Where the run is made, for the state.
    losses : list of float
        Mean loss of each finished epoch; grows in place.
    background : Background, optional
        Where checkpoints are written, each with the state that belongs to it.
    """

    def __init__(
        self,
        run: RunFiles,
        trainer: Trainer,
        keep: Keep,
        writer: EpochWriter,
        environment: dict[str, Any],
        losses: list[float],
        background: Background | None,
    ) -> None:
        self.run, self.trainer, self.keep, self.writer = run, trainer, keep, writer
        self.environment, self.losses, self.background = environment, losses, background

    def _header(self) -> dict[str, Any]:
        return {"identity": self.run.identity, "environment": self.environment, **self.trainer.position()}

    def _save(self, header: dict[str, Any], arrays: dict[str, np.ndarray], losses: np.ndarray) -> None:
        progress = {"history": losses, "digests": self.writer.digests, "finished": self.writer.finished}
        save_state(self.run.state, header, arrays | progress)

    def save(self) -> None:
        """Write the state of this moment, after all checkpoints before it."""
        self.drain()
        self._save(self._header(), self.trainer.state_arrays(), np.array(self.losses))

    def checkpoint(self, index: int, test: Split | None) -> None:
        """Write the checkpoint at position `index` of the store, and the state after it."""
        values, epoch = self.trainer.checkpoint(test), self.trainer.epoch
        if self.background is None:
            arrays = {name: value.cpu().numpy() for name, value in values.items()}
            self.writer.write(index, self.keep.values(epoch, arrays))
            self.save()
            return
        copies, state = HostCopy(values), HostCopy(self.trainer.state())
        header, losses = self._header(), np.array(self.losses)

        def write() -> None:
            self.writer.write(index, self.keep.values(epoch, copies.arrays()))
            self._save(header, state.arrays(), losses)

        self.background.submit(write)

    def drain(self) -> None:
        """Wait until every checkpoint is written; raises what went wrong with one."""
        if self.background is not None:
            self.background.drain()
