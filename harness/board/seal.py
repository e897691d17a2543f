"""A sealed split: the hash of a seed that a board's methods will be tested with, shown before the seed is."""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from harness.records.workspace import write_atomically
from harness.util.errors import HarnessError
from harness.util.json_files import content_of

NAME = "seal.json"
BITS = 63
"""Of a seed: it cannot be found by trying all, although the salt is shown."""
MOST_BYTES = 4096


@dataclass(frozen=True)
class Seal:
    """``hash``: SHA-256 of ``SALT:SEED``. ``seed``: None until the seal is opened."""

    salt: str
    hash: str
    seed: int | None = None

    @classmethod
    def drawn(cls) -> tuple[Seal, int]:
        """A new seal, and its seed, which is stored nowhere."""
        salt, seed = secrets.token_hex(16), secrets.randbits(BITS)
        return cls(salt, _hash(salt, seed)), seed

    @classmethod
    def of(cls, folder: Path) -> Seal | None:
        """The seal of the board in a folder. None: it has none. Errors: a damaged file; an opened seed that is not the
        sealed one.
        """
        path = folder / NAME
        if not path.exists():
            return None
        try:
            data = content_of(path, MOST_BYTES)
            seal = cls(str(data["salt"]), str(data["hash"]), data["seed"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise HarnessError(f"{path} is damaged: {error!r:.200}.", "Restore the file.") from error
        if seal.seed is not None and not (type(seal.seed) is int and seal.fits(seal.seed)):
            raise HarnessError(
                f"{path}: its seed {seal.seed} does not have its hash: the seed or the hash was changed.",
                "Restore the file.",
            )
        return seal

    def fits(self, seed: int) -> bool:
        """Whether this is the sealed seed."""
        return hmac.compare_digest(_hash(self.salt, seed), self.hash)

    def opened(self, seed: int) -> Seal:
        """The seal with its seed. Errors: another seed."""
        if not self.fits(seed):
            raise HarnessError(
                f"seed {seed} is not the sealed one: SHA-256 of {self.salt}:{seed} is not {self.hash}.",
                "Give the seed that `harness leaderboard --seal` showed.",
            )
        return Seal(self.salt, self.hash, seed)

    def write(self, folder: Path) -> None:
        """Write it beside the board."""
        write_atomically(folder / NAME, json.dumps(asdict(self), indent=1) + "\n")

    @property
    def sentence(self) -> str:
        """What it says about the board."""
        if self.seed is None:
            return f"Sealed split: a seed was fixed whose hash is SHA-256({self.salt}:SEED) = {self.hash}."
        return (
            f"Sealed split, opened: the seed is {self.seed}, and SHA-256({self.salt}:{self.seed}) = {self.hash} as "
            "shown before."
        )


def _hash(salt: str, seed: int) -> str:
    return sha256(f"{salt}:{seed}".encode()).hexdigest()
