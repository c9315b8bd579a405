"""
A selective model: Mamba-2
==========================

The layers of Mamba choose what to forget by their input, so the norms of control theory do not apply. Their states
can still be reduced on unlabelled data: ``compress_selective`` drops states (GHOST's score) or rotates them into
fewer, and tells which of the two stays nearest to the full network on sequences held apart. The model, of
transformers, recalls pairs that it has read.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
import transformers

from ssmreduce.reduction.calibrated import compress_selective

warnings.simplefilter("ignore")
transformers.utils.logging.set_verbosity_error()
FOLDER = "../../tests/data/mamba2_mqar16_N64"
model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER).eval()
with np.load(f"{FOLDER}/data.npz") as file:
    data = {name: torch.as_tensor(file[name].astype(np.int64)) for name in file.files}


def recalled(model):
    """Share of the asked tokens that are right."""
    with torch.no_grad():
        said = model(data["test_ids"], use_cache=False).logits.argmax(-1)
    asked = data["test_targets"] >= 0
    return float((said == data["test_targets"])[asked].double().mean())


# %%
# 64 states per head become 16, from 48 unlabelled sequences:

shares = {"full": recalled(model)}
for method in ("ghost", "rotate"):
    small = compress_selective(model, [data["calibration_ids"][:48]], ratio=0.75, methods=method)
    shares[method] = recalled(small.network)
    print(small)

# %%

figure, ax = plt.subplots(figsize=(5, 2.2), layout="constrained")
ax.barh(list(shares), [100 * share for share in shares.values()], color=["0.6", "C1", "C0"])
ax.set(xlabel="recalled (%)", xlim=(80, 100.5), title="a quarter of the states")
