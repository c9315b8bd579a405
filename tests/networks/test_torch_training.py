"""Reduced networks under what PyTorch does to modules: compiled, autocast, distributed; and other packages' layers."""

import os
import warnings

import numpy as np
import pytest

import ssmreduce as sr

torch = pytest.importorskip("torch")
import torch_networks  # noqa: E402


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


def test_compiled_network_has_no_graph_break():
    module, (x, labels) = reduced(), batch()
    plain = gradients(module, x, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own deprecations
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
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
