"""Errors that a user can cause and fix; each is one line that names thing, value and rule."""


class Mono3dError(Exception):
    """Base of all errors shown to a user as one line, with exit code 2."""


class ConfigError(Mono3dError):
    """A recipe, an override or a combination of settings breaks a rule."""


class DataError(Mono3dError):
    """A data-set file is missing, truncated, corrupt or inconsistent."""


class CheckpointError(Mono3dError):
    """A checkpoint is missing, incomplete, damaged or of another architecture."""


class StorageError(Mono3dError):
    """An object store cannot be reached, read or written as asked."""


class StorageAwayError(StorageError):
    """A store does not answer, or says that it fails; it may be back later."""


class ServiceError(Mono3dError):
    """A service (S3 server, MLflow server, Ray) is not there or is not what was expected."""


class ServiceAwayError(ServiceError):
    """Nothing answers where a service should be; it may be back later."""
