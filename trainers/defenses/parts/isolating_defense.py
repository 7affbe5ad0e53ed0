"""Base class of ABL, PT and DLP: isolate samples by a score, train on the rest, and unlearn the isolated ones."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainers.data.batches import shuffled_batches, spread
from trainers.defenses.base import Defense, LossMeter, Report
from trainers.defenses.footprint import DataSize, Trained
from trainers.defenses.parts.entropy import normalise
from trainers.defenses.parts.isolation import isolate, sample_losses
from trainers.defenses.parts.split_scope import normalise_within, rank_within
from trainers.defenses.parts.unlearning import bounded_ascent
from trainers.errors import TrialError
from trainers.models import ModelConfig, Network
from trainers.optim import Descent, OptimizerParams

Reduce = Callable[[Tensor], Tensor]
View = Callable[[Tensor], Tensor]


class Isolating(Defense):
    """Base of defenses that isolate suspicious samples. A low score marks a sample as suspicious.

    An extension of all of them: ``split_scope: class`` compares scores within each given label
    (:mod:`trainers.defenses.parts.split_scope` says what for, and what it costs).
    """

    @classmethod
    def trained_on_pairs(
        cls,
        params: OptimizerParams,
        model: ModelConfig,
        data: DataSize,
        rate: float | None,
        views: int,
        pass_images: int,
    ) -> Trained:
        """A network that is trained on :meth:`pairs`.

        Args:
            params: batch size and optimiser.
            model: the network.
            data: number and shape of the images.
            rate: the share of the samples that is isolated; null: any, so that one batch may have all others beside it.
            views: views of each isolated sample.
            pass_images: images that a step with more of them takes in one pass.
        """
        alone = cls.trained(params, model, params.batch_size, data.images)
        isolated = data.images if rate is None else round(rate * data.images)
        batches = 1 if rate is None else max((data.images - isolated) // params.batch_size, 1)
        most = alone.largest_pass + views * max(isolated // batches, 1)
        return replace(alone, largest_pass=min(most, max(alone.largest_pass, pass_images)), largest_step=most)

    def everything(self) -> Tensor:
        """Indices of all samples: int64 (N,)."""
        return torch.arange(len(self.images), device=self.device)

    def kept(self) -> Tensor:
        """Indices of the credible samples."""
        return self.tensors["credible"].nonzero().squeeze(1)

    def isolated(self) -> Tensor:
        """Indices of the suspicious samples."""
        return (~self.tensors["credible"]).nonzero().squeeze(1)

    def mark(self, scores: Tensor, rule: str, rate: float, scope: str) -> None:
        """Divide the samples into credible and suspicious ones by ``scores``.

        Args:
            scores: float (N,), low where a sample is suspicious.
            rule: ``rate`` or ``gmm``, as :func:`isolate` has it.
            rate: the share that is isolated by rule ``rate``.
            scope: ``set`` compares scores as they are; ``class`` within each given label (ours), by rank for the rule
                ``rate``, normalised for ``gmm``.

        Raises:
            TrialError: a score is not finite.
        """
        if not scores.isfinite().all():
            raise TrialError("The scores for isolating samples are not finite.")
        if scope == "class":
            scores = (rank_within if rule == "rate" else normalise_within)(scores, self.labels)
        self.tensors["scores"] = scores
        self.tensors["credible"] = ~isolate(scores, rule, rate, self.task.seed)

    def losses(self, network: nn.Module) -> Tensor:
        """Cross-entropy of every sample without augmentation, with its given label: float (N,)."""
        return sample_losses(self.logits_of(network, self.images), self.labels)

    def plain(self, indices: Tensor) -> Tensor:
        """Normalised training images without augmentation: float (M, C, H, W)."""
        return self.normalise(self.images.index_select(0, indices))

    def descend(
        self,
        descent: Descent,
        chosen: Tensor,
        batch_size: int,
        reduce: Reduce,
        view: View | None = None,
        label_smoothing: float = 0.0,
    ) -> LossMeter:
        """Train a network for one epoch on the ``chosen`` samples.

        Args:
            descent: of the network, with the learning rate set.
            chosen: indices of the samples.
            batch_size: samples per batch.
            reduce: turns the losses of a batch, float (M,), into the scalar that is minimised.
            view: turns indices into normalised images, float (M, C, H, W); null: :meth:`view`, which augments.
            label_smoothing: share of each label that is spread over all classes.
        """
        view = view or self.view
        descent.train()
        meter = LossMeter(self.device)
        for batch in self.batches(chosen, batch_size):
            logits = self.run_network(descent.network, view(batch)).logits
            losses = sample_losses(logits, self.labels[batch], label_smoothing)
            self.step(descent, reduce(losses))
            meter.add(losses.mean(), len(batch))
        return meter

    def pairs(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of kept samples, each sample once, and with each batch its share of the isolated ones.

        Yields:
            Indices of ``batch_size`` kept samples (the last batch may differ), and of isolated ones as :func:`spread`
            distributes them, so that batch-norm sees both about in the proportion that they have in the data.
        """
        kept = list(shuffled_batches(self.kept(), batch_size, self.generator))
        yield from zip(kept, spread(self.isolated(), len(kept), self.generator), strict=True)

    def forget(
        self,
        descent: Descent,
        batch_size: int,
        weight: float,
        ceiling: float,
        view: View | None = None,
    ) -> LossMeter:
        """Train one epoch: each batch has descent on kept samples and bounded ascent on isolated ones.

        Both go through the network in one pass (an interpretation), so that batch-norm sees one kind of batch.

        Args:
            descent: of the network, with the learning rate set.
            batch_size: kept samples per batch.
            weight: weight of the ascent.
            ceiling: loss of an isolated sample at which the ascent on it ends.
            view: as for :meth:`descend`.
        """
        view = view or self.view
        descent.train()
        meter = LossMeter(self.device)
        pairs = list(self.pairs(batch_size))
        batches = self.ahead([torch.cat(pair) for pair in pairs])
        for batch, (kept, _) in zip(batches, pairs, strict=True):
            losses = self._forgetting(descent.network, batch, len(kept), weight, ceiling, view, meter)
            self.step_in_passes(descent, losses)
        return meter

    def _forgetting(
        self,
        network: nn.Module,
        batch: Tensor,
        count: int,
        weight: float,
        ceiling: float,
        view: View,
        meter: LossMeter,
    ) -> Iterator[Tensor]:
        """Parts of the loss of a batch, one for each pass; the loss of kept samples goes to ``meter`` at the end.

        The first ``count`` of the batch are kept samples, the others isolated ones.
        """
        images, labels = view(batch), self.labels[batch]
        passes = self.task.compute.passes(len(batch))
        own = zip(images[:count].tensor_split(passes), labels[:count].tensor_split(passes), strict=True)
        rest = zip(images[count:].tensor_split(passes)[::-1], labels[count:].tensor_split(passes)[::-1], strict=True)
        of_kept = torch.zeros((), device=self.device)
        for (credible, right), (isolated, wrong) in zip(own, rest, strict=True):
            logits = self.run_network(network, torch.cat([credible, isolated])).logits
            losses = sample_losses(logits, torch.cat([right, wrong]))
            descent = losses[:0].sum()  # a pass may lack one kind
            if len(credible):
                descent = descent + len(credible) / count * losses[: len(credible)].mean()
            of_kept += descent.detach()
            share = len(isolated) / max(len(batch) - count, 1)
            yield descent + share * weight * bounded_ascent(losses[len(credible) :], ceiling)
        meter.add(of_kept, len(batch))

    def unlearned(self, meter: LossMeter, descent: Descent) -> Report:
        """Report of an epoch of unlearning. The average begins anew: so few steps would hardly move it."""
        descent.restart_average()
        return self.report(meter, descent.result())

    def report(self, meter: LossMeter, network: Network | None) -> Report:
        """Report of an epoch, with suspicion scores and split once they exist."""
        scores = self.tensors.get("scores")
        suspicion = None if scores is None else 1 - normalise(scores)
        return Report(meter.mean(), meter.images, network, suspicion, self.tensors.get("credible"))
