#!/usr/bin/env python3
"""Opens a deployment directory of ristretto and serves its policy. Needs PyTorch and NumPy, and nothing of ristretto.

In a trader, three lines change:

    from ristretto_deployment import Deployment       # for the import of the network's class
    policy = Deployment("deployments/NAME")           # for building the network and loading actor.pth into it
    action = policy.action(state)                     # for act(torch.as_tensor(state)...) [S] -> [A], in [-1, 1]

`policy.layout` names what each number of the state has to be, in order; `policy.assets` whose the actions are.
`policy.require_layout(names)` with the names of what you observe says before the first order what differs.
`python ristretto_deployment.py PATH` says what PATH is and checks it: exit code 0, or 4 if it is damaged.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

FORMS = ("policy.pt", "actor.safetensors", "actor.pth")  # the same policy thrice; the first serves every architecture
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FIELDS = {  # what is read of manifest.json
    "name": (), "version": (), "files": (),
    "architecture": ("network", "observation", "actions"),
    "layout": ("names", "scales", "assets"),
    "probe": ("input", "output", "tolerance"),
}


class DeploymentError(Exception):
    """The directory is damaged, incomplete, or not what its manifest says."""


class Deployment:
    """One version of a deployment, read once: a later promotion does not change it."""

    def __init__(self, path, form=None):
        """Checks every file against the manifest and the policy against the manifest's probe. `form`: one of FORMS."""
        self.directory = Path(path).resolve()  # a link followed once, so that a promotion meanwhile mixes no versions
        self.manifest = _read_manifest(self.directory)
        architecture, layout = self.manifest["architecture"], self.manifest["layout"]
        self.name, self.version = self.manifest["name"], self.manifest["version"]
        self.layout, self.scales, self.assets = layout["names"], layout["scales"], layout["assets"]
        self.observation, self.actions = architecture["observation"], architecture["actions"]
        # Numbers of an asset in a state of a network that serves any number of assets; 0: only those of its training.
        self._each = 1 + architecture["features"] * architecture["lookback"] if "features" in architecture else 0
        self._check_files()
        self.forms = [f for f in FORMS if f in self.manifest["files"]]
        self.form = form or next(iter(self.forms), None)
        if self.form not in self.forms:
            wanted = self.form or "one of " + ", ".join(FORMS)
            raise DeploymentError(f"{self.directory} holds {self.forms}, expected {wanted}")
        self._policy = _open_policy(self.directory / self.form, architecture)
        self.probe_deviation = self._check_probe()

    def action(self, state):
        """State [S] or [N, S], in the order and scale of `layout` -> actions [A] or [N, A], float32 in [-1, 1].

        A market_context takes any assets: cash, n holdings, then lag by lag the features of each -> n actions.
        """
        state = torch.as_tensor(np.asarray(state, dtype=np.float32))
        size = state.shape[-1] if state.ndim else 0
        fits = size == self.observation or (self._each and size > 1 and (size - 1) % self._each == 0)
        if state.ndim not in (1, 2) or not fits:
            size = self.observation
            raise ValueError(f"the state has shape {list(state.shape)}, expected [{size}] or [N, {size}]")
        if not torch.isfinite(state).all():
            where = torch.nonzero(~torch.isfinite(state))[0, -1].item()
            name = self.layout[where] if size == self.observation else f"number {where}"
            raise ValueError(f"the state's '{name}' is not finite")
        with torch.inference_mode():
            actions = self._policy(state.reshape(-1, size))
        return actions.reshape(*state.shape[:-1], actions.shape[-1]).clamp(-1, 1).numpy()

    def require_layout(self, names):
        """Raises DeploymentError that names the difference where `names`, in order, are not what the policy reads."""
        names = list(names)
        if names == self.layout:
            return
        missing = [name for name in self.layout if name not in names]
        unknown = [name for name in names if name not in self.layout]
        parts = [f"{len(part)} {what} ({', '.join(part[:4])}{', ...' if len(part) > 4 else ''})"
                 for part, what in ((missing, "missing"), (unknown, "unknown to it")) if part]
        if not parts:
            i = next((i for i, (a, b) in enumerate(zip(names, self.layout)) if a != b), min(len(names), self.observation))
            parts = [f"number {i} is '{names[i]}', expected '{self.layout[i]}'" if i < self.observation
                     else f"{len(names)} names, expected {self.observation}"]
        raise DeploymentError(f"{self.directory} reads another observation: {'; '.join(parts)}")

    def _check_files(self):
        if len(self.layout) != self.observation:
            raise DeploymentError(
                f"{self.directory}: the layout names {len(self.layout)} numbers, the network reads {self.observation}")
        for name, expected in self.manifest["files"].items():
            file = self.directory / name
            if not file.is_file():
                if name.startswith("training/"):  # kept for the newest versions only
                    continue
                raise DeploymentError(f"{file} is missing, though the manifest lists it")
            found = hashlib.sha256(file.read_bytes()).hexdigest()
            if found != expected["sha256"]:
                raise DeploymentError(f"{file} has sha256 {found}, the manifest says {expected['sha256']}")

    def _check_probe(self):
        probe = self.manifest["probe"]
        expected = np.asarray(probe["output"], dtype=np.float32)
        found = self.action(probe["input"])
        if found.shape != expected.shape:
            raise DeploymentError(
                f"{self.directory}/{self.form} answers the probe with shape {found.shape}, expected {expected.shape}")
        deviation = float(np.abs(found - expected).max())
        if not deviation <= probe["tolerance"]:  # so that NaN fails, too
            raise DeploymentError(
                f"{self.directory}/{self.form} misses the manifest's probe by {deviation:.3g}, "
                f"expected {probe['tolerance']:.3g} at most")
        return deviation


def _read_manifest(directory):
    beside = directory.with_name(directory.name + ".manifest.json")  # of a directory that was adopted as it was
    file = directory / "manifest.json"
    file = beside if beside.is_file() and not file.is_file() else file
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest["schema_version"] != 1:
            raise DeploymentError(f"{file} has schema_version {manifest['schema_version']}, expected 1")
        missing = [k for k in FIELDS if k not in manifest]
        missing += [f"{k}.{part}" for k in FIELDS if k in manifest for part in FIELDS[k] if part not in manifest[k]]
        if missing:
            raise DeploymentError(f"{file} lacks {', '.join(missing)}")
        return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeploymentError(f"{file} cannot be read as a deployment's manifest: {error!r}") from error


def _open_policy(file, architecture):
    """A function from states [N, S] to actions [N, A]."""
    try:
        if file.name == "policy.pt":
            return torch.jit.load(str(file), map_location="cpu").eval()
        safetensors = file.suffix == ".safetensors"
        weights = _read_safetensors(file) if safetensors else torch.load(file, "cpu", weights_only=True)
        forward = {"mlp": _mlp, "ft_transformer": _ft_transformer}.get(architecture["network"])
        if forward is None:
            raise DeploymentError(f"{file} is of a network '{architecture['network']}', which only policy.pt can serve")
        forward(weights, torch.zeros(1, architecture["observation"]), architecture)  # shows missing names, wrong shapes
        return lambda state: forward(weights, state, architecture)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DeploymentError(f"{file} cannot be loaded: {error!r}") from error


def _read_safetensors(file):
    data = file.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    weights = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        block = bytearray(data[8 + size + begin : 8 + size + end])
        weights[name] = torch.frombuffer(block, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"]).float()
    return weights


def _linear(weights, name, x):
    return F.linear(x, weights[name + ".weight"], weights[name + ".bias"])


def _mlp(weights, state, _):
    x = _linear(weights, "net.0", state).relu()
    x = _linear(weights, "net.2", x).relu()
    return _linear(weights, "net.4", x).tanh()


def _ft_transformer(weights, state, architecture):
    """One token a number of the state, pre-norm blocks, and the head over all tokens, flattened."""

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"], 1e-5)

    x = state[:, :, None] * weights["encoder.tokenizer.weight"] + weights["encoder.tokenizer.bias"]  # [N, S, d]
    bias = weights.get("encoder.key_bias")  # of a converted network: what each token's scores are raised by
    mask = None if bias is None else bias.reshape(1, 1, 1, -1)
    for i in range(architecture["blocks"]):
        block = f"encoder.blocks.{i}."
        h = norm(block + "norm1", x)
        q, k, v = (  # [N, heads, S, d / heads]
            _linear(weights, f"{block}attention.W_{which}", h).unflatten(2, (architecture["heads"], -1)).transpose(1, 2)
            for which in "qkv")
        h = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        x = x + _linear(weights, block + "attention.W_out", h)
        h = _linear(weights, block + "feedforward.linear1", norm(block + "norm2", x)).relu()
        x = x + _linear(weights, block + "feedforward.linear2", h)
    x = _linear(weights, "encoder.output_projection", norm("encoder.norm", x).flatten(1)).relu()
    return _linear(weights, "net.3", _linear(weights, "net.1", x).relu()).tanh()


def main(arguments):
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__, file=sys.stdout if arguments[:1] in (["-h"], ["--help"]) else sys.stderr)
        return 0 if len(arguments) == 1 else 2
    try:
        policy = Deployment(arguments[0])
        network = policy.manifest["architecture"]["network"]
        print(f"{policy.name} version {policy.version} ({policy.manifest.get('status')}): {network}, "
              f"{policy.observation} numbers in, {policy.actions} actions out ({', '.join(policy.assets)})")
        for form in policy.forms:
            if form == "policy.pt" or network in ("mlp", "ft_transformer"):
                print(f"{form}: probe met within {Deployment(arguments[0], form).probe_deviation:.2g}")
        return 0
    except DeploymentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
