"""From a fitted net to a finished model: temperature and operating point, chosen on val."""

import copy

from medvision.commands.compose import net_config
from medvision.commands.infer import predict_samples
from medvision.commands.job import Job
from medvision.data.contract import summarise, to_plain
from medvision.data.native import natives_of
from medvision.evaluation.calibration import apply_temperature, choose_thresholds, fit_temperature
from medvision.model import Model, Seen
from medvision.tasks.supervised import Supervised


def calibrate(task: Supervised, job: Job) -> Model:
    """Freeze temperature and operating point on the val part; return the finished model."""
    config, data, samples, card = job.config, job.data, job.data.ready, job.data.card
    assert card is not None
    seen = Seen(*samples.seen("train"), *samples.seen("val"), key=card.key)
    for earlier in job.earlier:
        seen = seen.join(earlier)
    model = Model(
        net=copy.deepcopy(task.net).eval(),  # as it will be loaded: copies are not compiled
        config=net_config(config, data, trained=True),
        classes=samples.classes.names,
        kind=samples.classes.kind,
        contract=data.reader.contract(),
        rename=dict(samples.classes.rename),
        negative=samples.classes.negative,
        rule=config.operating_point,
        augment=job.plain["augment"],
        tta=config.tta,
        seed=config.seed,
        seen=seen,
        trained_on=to_plain(summarise(natives_of(samples, samples.spread(samples.rows("train"))))),
        series=samples.slices.form.contract() if samples.slices else None,
    )
    rows = samples.rows("val")
    logits, label = predict_samples(model, samples, rows).logits.numpy(), samples.label[rows]
    model.temperature = fit_temperature(logits, label, model.question)
    probs = apply_temperature(logits, model.temperature, model.question)
    model.threshold = choose_thresholds(probs, label, model.question, model.rule)
    return model
