# SPDX-License-Identifier: Apache-2.0
"""The controller's address and the caller's credentials: options, environment, and the client's configuration file.

An option wins over the environment, both win over the file. The file is that of C(fabricctl): C(server), C(ca) and
C(token), the last two paths relative to the file.
"""

from __future__ import annotations

import os
import traceback

from ansible.module_utils.basic import env_fallback

from ansible_collections.vfabric.fabric.plugins.module_utils.problem import settings_error

try:
    import yaml
except ImportError:
    yaml = None
    YAML_IMPORT_ERROR = traceback.format_exc()
else:
    YAML_IMPORT_ERROR = None

# The file that fabricctl uses when none is named.
DEFAULT_CONFIG = "~/.config/vfabric/client.yaml"


def argument_spec():
    """The options of a connection, for a module."""
    return {
        "config_file": {"type": "path", "fallback": (env_fallback, ["VFABRIC_CONFIG"])},
        "server": {"type": "str", "fallback": (env_fallback, ["VFABRIC_SERVER"])},
        "ca_file": {"type": "path", "fallback": (env_fallback, ["VFABRIC_CA_FILE"])},
        "token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["VFABRIC_TOKEN"])},
        "token_file": {"type": "path", "no_log": False, "fallback": (env_fallback, ["VFABRIC_TOKEN_FILE"])},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 30},
        "retries": {"type": "int", "default": 4},
    }


class Settings:
    """How to reach a controller. The token is never part of its text."""

    def __init__(self, server, token, ca_file=None, validate_certs=True, timeout=30, retries=4):
        if not server.startswith("https://"):
            raise settings_error("server: `%s`: expected an address that starts with https://" % server)
        if not token:
            raise settings_error("token: there is none; name one with `token_file`, `token` or `config_file`")
        if not token.isascii() or any(c.isspace() for c in token):
            raise settings_error("token: expected ASCII characters without spaces")
        if timeout < 1:
            raise settings_error("timeout: `%s`: expected at least one second" % timeout)
        if retries < 0:
            raise settings_error("retries: `%s`: expected zero or more" % retries)
        self.server = server.rstrip("/")
        self.token = token
        self.ca_file = ca_file
        self.validate_certs = validate_certs
        self.timeout = timeout
        self.retries = retries

    def __repr__(self):
        return "Settings(%r, ca_file=%r)" % (self.server, self.ca_file)


def load(options):
    """Settings from the options of a module or plugin.

    :arg options: the options by name; what was not given is None or missing.
    :raises ControllerError: a file is missing or wrong, or something is not said anywhere.
    """
    config = read_config(options)
    server = options.get("server") or config.get("server")
    if not server:
        raise settings_error("server: not given; name it with `server`, or a file with `config_file`")
    ca_file = options.get("ca_file") or config.get("ca")
    if ca_file and not os.path.isfile(ca_file):
        raise settings_error("ca_file: cannot read %s: there is no such file" % ca_file)
    token = options.get("token")
    token_file = options.get("token_file") or config.get("token")
    if not token and token_file:
        token = first_token(read(token_file, "token_file"))
        if not token:
            raise settings_error("token_file: %s has no token" % token_file)
    return Settings(
        server,
        token,
        ca_file=ca_file,
        validate_certs=options.get("validate_certs", True),
        timeout=options.get("timeout") or 30,
        retries=4 if options.get("retries") is None else options["retries"],
    )


def read_config(options):
    """The client's configuration file as a dictionary with absolute paths; empty if there is none."""
    path = options.get("config_file")
    if not path:
        path = os.path.expanduser(DEFAULT_CONFIG)
        if options.get("server") or not os.path.isfile(path):
            return {}
    if yaml is None:
        raise settings_error("config_file: the Python package PyYAML is needed to read %s" % path)
    try:
        config = yaml.safe_load(read(path, "config_file"))
    except yaml.YAMLError as error:
        raise settings_error("config_file: %s is not YAML: %s" % (path, error)) from error
    known = {"server", "ca", "token"}
    if not isinstance(config, dict) or set(config) - known or not all(isinstance(v, str) for v in config.values()):
        raise settings_error("config_file: %s: expected texts under %s" % (path, ", ".join(sorted(known))))
    folder = os.path.dirname(os.path.abspath(path))
    for name in ("ca", "token"):
        if config.get(name):
            config[name] = os.path.join(folder, config[name])
    return config


def read(path, option):
    """The text of a file; an error names the option that named it."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise settings_error("%s: cannot read %s: %s" % (option, path, reason)) from error


def first_token(text):
    """The first line that is a token: neither empty nor a comment."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")
