"""Self-signed certificates for 127.0.0.1, which nobody trusts unless told to."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["Certificate"]


class Certificate:
    """One of them and its key, in files of PEM.

    Attributes:
        cert: the certificate.
        key: its key, encrypted where there is a password.
        both: the two in one.
    """

    def __init__(
        self, folder: Path, name: str, password: bytes | None = None, days: int = 1
    ) -> None:
        """Make it; ``days`` it still holds, less than 0 for one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
            )
            .sign(key, hashes.SHA256())
        )
        self.cert, self.key, self.both = (
            folder / f"{name}-{part}.pem" for part in ("cert", "key", "both")
        )
        self.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password)
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
        )
        self.both.write_bytes(self.key.read_bytes() + self.cert.read_bytes())

    @property
    def trusted(self) -> ssl.SSLContext:
        """What a client needs to trust it."""
        return ssl.create_default_context(cafile=str(self.cert))
