"""Do a few latents tell a concept, as well as the activations do, and still do so on other kinds of text?

The k latents whose means differ most between the training examples of a class and others are the input of a logistic
probe; see `sae_lightning.probing.probe` for the settings. Korznikov et al. 2026 (arXiv 2602.14111) compare random
baselines in this way; that sparse probes lose more than dense ones out of distribution is a finding of Smith et al.
2025 (Negative results for sparse autoencoders on downstream tasks, Google DeepMind, progress update 2).
"""

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from sae_lightning.evaluators.probes import Probing
from sae_lightning.evaluators.text_evaluator import TextEvaluator
from sae_lightning.pocket import CityAttribute, PythonIndentation, PythonPackage, PythonTokens
from sae_lightning.probing.features import Pooling
from sae_lightning.probing.prepared import PreparedTask
from sae_lightning.probing.task import ProbingTask


class SparseProbing(TextEvaluator, Probing):
    """Log how well logistic probes on the k best latents classify: probe_accuracy_k<k> and probe_auroc_k<k>, held out.

    Each class of a task is classified against the rest, with as many positive as negative examples; values are means
    over classes, then over tasks. Those with _ood are on examples of another kind, for the tasks that have them.
    probe_reconstruction_accuracy and probe_reconstruction_auroc are of a probe on the whole reconstruction, of a
    transcoder on its answer, while what stands beside it is of what it reads. Of a crosscoder all is of its parts side
    by side, for what stands beside it scaled as the crosscoder scales them.

    Beside the SAEs stand dense_probe, a probe on all of the activation; top_dimensions, the k best dimensions of the
    activation; random_directions, the k best of as many random directions as there are latents, after a ReLU. Floors
    are measured, for each SAE and reference: its score, by the same probes, where each word, text or city has a random
    label, the same in training and test, which counts what choosing among many latents and meeting a word again are
    worth. Labels are drawn once for each class, and again in each repeat.

    Intervals are over the documents of all tasks, and from 20 tasks on over tasks: about other tasks like these.

    Args:
        tasks: what to classify: PythonTokens, PythonIndentation, PythonPackage, CityAttribute, LabelledFiles,
            SAEBenchSet, SAEProbesSets (many tasks in one). Default: the first three, and CityAttribute for continent
            and for language; they need no network.
        ks: how many latents a probe reads, each 1 or more.
        pooling: how the tokens of a text become one example, where a task is about whole texts; special tokens never
            count.
        train_examples: of one class against the rest, both together, at most; 20 or more.
        test_examples: the same for test, and again out of distribution.
        n_repeats: draws of examples, of what is training and what is test, and of control labels; values are means over
            them. The smallest difference that can be told shrinks with their root.
        every_n_validations: 0 for the last alone. With the default tasks and the pocket language model one costs
            a minute of one core, and five seconds more for each SAE with 2048 latents, for each repeat.
    """

    def __init__(
        self,
        tasks: list[ProbingTask] | None = None,
        ks: Sequence[int] = (1, 2, 5),
        pooling: Pooling = "mean",
        train_examples: int = 1000,
        test_examples: int = 500,
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        numbers = {"train_examples": train_examples, "test_examples": test_examples}
        super().__init__(ks, numbers, n_repeats, every_n_validations)
        if tasks is not None and not tasks:
            raise ValueError("tasks=[]: expected one task or more, or leave it out for the default tasks")
        self.tasks, self.pooling = tasks, pooling
        self.train_examples, self.test_examples = train_examples, test_examples

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the examples, so that a mistake in them shows before training."""
        super().setup(trainer, pl_module, stage)
        if not self._prepared:
            self._prepared = [
                [
                    PreparedTask(task, self.reader, self.train_examples, self.test_examples, self.pooling, draw)
                    for draw in range(self.n_repeats)
                ]
                for given in (default_tasks() if self.tasks is None else self.tasks)
                for task in given.parts()
            ]


def default_tasks() -> list[ProbingTask]:
    """Return the tasks that need no network."""
    return [PythonTokens(), PythonIndentation(), PythonPackage(), CityAttribute("continent"), CityAttribute("language")]
