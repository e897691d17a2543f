"""A sealed split: the hash of a secret number, shown on a board before the number is. The seed that the board's methods
will be tested with follows from the number.
"""

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
from harness.util.seeds import seed_for

NAME = "seal.json"
BITS = 63
"""Of the secret: it cannot be found by trying all, although the salt is shown. All 32-bit seeds could be tried."""
MOST_BYTES = 4096


@dataclass(frozen=True)
class Seal:
    """``hash``: SHA-256 of ``SALT:SECRET``. ``secret``: None until the seal is opened."""

    salt: str
    hash: str
    secret: int | None = None

    @classmethod
    def drawn(cls) -> tuple[Seal, int]:
        """A new seal, and its secret, which is stored nowhere."""
        salt, secret = secrets.token_hex(16), secrets.randbits(BITS)
        return cls(salt, _hash(salt, secret)), secret

    @classmethod
    def of(cls, folder: Path) -> Seal | None:
        """The seal of the board in a folder. None: it has none. Errors: a damaged file; a number that is not the sealed
        one.
        """
        path = folder / NAME
        if not path.exists():
            return None
        try:
            data = content_of(path, MOST_BYTES)
            seal = cls(str(data["salt"]), str(data["hash"]), data["secret"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise HarnessError(f"{path} is damaged: {error!r:.200}.", "Restore the file.") from error
        if seal.secret is not None and not (type(seal.secret) is int and seal.fits(seal.secret)):
            raise HarnessError(
                f"{path}: its number {seal.secret} does not have its hash: one of them was changed.",
                "Restore the file.",
            )
        return seal

    def fits(self, secret: int) -> bool:
        """Whether this is the sealed number."""
        return hmac.compare_digest(_hash(self.salt, secret), self.hash)

    def opened(self, secret: int) -> Seal:
        """The seal with its number. Errors: another number."""
        if not self.fits(secret):
            raise HarnessError(
                f"{secret} is not the sealed number: SHA-256 of {self.salt}:{secret} is not {self.hash}.",
                "Give the number that `harness leaderboard --seal` showed.",
            )
        return Seal(self.salt, self.hash, secret)

    @property
    def seed(self) -> int | None:
        """The seed that follows from the number, by the first four bytes of SHA-256 of ``SECRET/sealed split``."""
        return None if self.secret is None else seed_for(self.secret, "sealed split")

    def write(self, folder: Path) -> None:
        """Write it beside the board."""
        write_atomically(folder / NAME, json.dumps(asdict(self), indent=1) + "\n")

    @property
    def sentence(self) -> str:
        """What it says about the board."""
        if self.secret is None:
            return f"Sealed split: a secret number was fixed whose hash is SHA-256({self.salt}:NUMBER) = {self.hash}."
        return (
            f"Sealed split, opened: the number is {self.secret}, and SHA-256({self.salt}:{self.secret}) = {self.hash} "
            f"as shown before. Its seed is {self.seed}."
        )


def _hash(salt: str, secret: int) -> str:
    return sha256(f"{salt}:{secret}".encode()).hexdigest()
