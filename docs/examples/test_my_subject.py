# test_my_subject.py
import numpy as np
import torch
from my_subject import Convolution

from harness import method


def test_an_ablated_channel_is_a_channel_of_zeros() -> None:
    subject = Convolution(channels=6)()
    batch = method("batch", "vectors", n=20)(subject.reads)
    metrics = [method("metric", "target_logit")]
    found = subject.evaluate(batch, [(2, 5)], method("intervention", "zero"), metrics)[0, 0]
    with torch.no_grad():
        subject.model[1].weight[[2, 5]] = 0
        subject.model[1].bias[[2, 5]] = 0
        outputs = subject.model(torch.from_numpy(batch.inputs)).numpy()
    np.testing.assert_allclose(found, outputs[np.arange(20), batch.target], atol=1e-5)
