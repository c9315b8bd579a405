"""Reduced networks under what PyTorch does to modules: compiled, autocast, distributed; and other packages' layers."""

import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest

import ssmreduce as sr

torch = pytest.importorskip("torch")
import torch_networks  # noqa: E402
from support.digits import digits  # noqa: E402


def reduced():
    torch.manual_seed(0)
    module = torch_networks.S5Classifier(width=4, states=6, layers=2).eval()
    model = sr.network(module).model
    return sr.replace_layers(module, sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5)))


def gradients(module, x, labels):
    module.zero_grad()
    torch.nn.functional.cross_entropy(module(x), labels).backward()
    return {name.removeprefix("module."): p.grad.clone() for name, p in module.named_parameters()}


def batch():
    rng = np.random.default_rng(0)
    return torch.tensor(rng.random((8, 20, 1)), dtype=torch.float32), torch.tensor(rng.integers(0, 10, 8))


def one_process(rank, port, folder):
    """Half of the batch, in a process of two."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    module = torch.nn.parallel.DistributedDataParallel(reduced())
    x, labels = batch()
    mine = slice(4 * rank, 4 * rank + 4)
    torch.save(gradients(module, x[mine], labels[mine]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_distributed_gradients_are_those_of_the_whole_batch(tmp_path):
    torch.multiprocessing.spawn(one_process, (free_port(), str(tmp_path)), nprocs=2)
    whole = gradients(reduced(), *batch())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == whole.keys()
        for name, value in whole.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_network_has_no_graph_break(backend):
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    module, (x, labels) = reduced(), batch()
    plain = gradients(module, x, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own deprecations
        compiled = torch.compile(module, fullgraph=True, backend=backend)
        found = gradients(compiled, x, labels)
    for name, value in plain.items():
        torch.testing.assert_close(found[f"_orig_mod.{name}"], value, rtol=1e-3, atol=1e-5)


def test_autocast_training():
    module, (x, labels) = reduced(), batch()
    plain = gradients(module, x, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = gradients(module, x, labels)
    for name, value in plain.items():
        assert mixed[name].dtype == torch.float32
        torch.testing.assert_close(mixed[name], value, rtol=0.2, atol=0.05 * value.abs().max().item() + 1e-4)


class LRUPyTorch(torch.nn.Module):
    """A network around the layer of the package LRU-pytorch."""

    def __init__(self):
        super().__init__()
        layer = pytest.importorskip("LRU_pytorch").LRU(5, 6, 8)
        self.encoder, self.lru, self.decoder = torch.nn.Linear(1, 5), layer, torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.decoder(torch.nn.functional.gelu(self.lru(self.encoder(x))).mean(1))


def test_lru_pytorch():
    torch.manual_seed(0)
    module, (x, _) = LRUPyTorch(), batch()
    small = sr.compress(module, [x], ratio=0.5, steps=3)
    assert small(x).shape == (8, 3)
    net = sr.network(module)
    pruned = sr.prune(net.model, {"lru": [0, 3, 5]})
    masked = LRUPyTorch()
    masked.load_state_dict({k: torch.tensor(v) for k, v in sr.export(pruned, form="mask").items()})
    torch.testing.assert_close(sr.replace_layers(module, pruned)(x), masked(x), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_one_epoch_repairs_last():
    """The recipe of the guide, on the training sequences of the shipped model."""
    x, y, x_test, y_test = (torch.from_numpy(np.asarray(array)) for array in digits())
    module = torch_networks.s5_digits()
    model = sr.network(module).model
    small = sr.replace_layers(module, sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5)))
    with torch.no_grad():
        assert (small(x_test).argmax(1) == y_test).double().mean() < 0.7
    dynamics, others = [], []
    for part in small.modules():
        for name, p in part.named_parameters(recurse=False):
            own = isinstance(part, sr.networks.SSMLayer) and name in ("log_rate", "angle", "B")
            (dynamics if own else others).append(p)
    groups = [{"params": others, "weight_decay": 0.05}, {"params": dynamics, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    small.train()
    for index in torch.randperm(len(x), generator=torch.manual_seed(0)).split(25):
        loss = torch.nn.functional.cross_entropy(small(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    small.eval()
    with torch.no_grad():
        assert (small(x_test).argmax(1) == y_test).double().mean() > 0.9


IN_ANOTHER_PROCESS = """
import sys
import torch
import torch_networks
import ssmreduce as sr

torch.manual_seed(1)
small = sr.networks.restore(torch_networks.S5Classifier(width=4, states=6, layers=2), sys.argv[1])
x = torch.linspace(-1, 1, 40).reshape(2, 20, 1)
torch.save(small(x).detach(), sys.argv[2])
print(*sr.load(sys.argv[1]).orders.values())
"""


def test_a_folder_is_read_in_another_process(tmp_path):
    small = reduced()
    sr.networks.save_module(small, tmp_path / "small")
    places = os.pathsep.join([os.path.dirname(torch_networks.__file__), os.path.dirname(os.path.dirname(sr.__file__))])
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / "small"), str(tmp_path / "y.pt")]
    said = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": places}, capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == [str(states) for states in sr.read(small).orders.values()]
    y = torch.load(tmp_path / "y.pt", weights_only=True)
    assert torch.equal(y, small(torch.linspace(-1, 1, 40).reshape(2, 20, 1)))
