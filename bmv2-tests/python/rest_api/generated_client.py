# SPDX-License-Identifier: Apache-2.0
"""Creates and reads a vDC with a client that a generator made from the OpenAPI document.

Arguments: the address of the API, and a file with the authorities to trust. The token is in VFABRIC_TOKEN.
"""

import os
import ssl
import sys

from generated.api.vdcs import create_vdcs, get_vdcs, list_vdcs
from generated.client import AuthenticatedClient
from generated.models import ApiError, Vdc, VdcSpec

url, authorities = sys.argv[1:]
trust = ssl.create_default_context(cafile=authorities)
client = AuthenticatedClient(base_url=url, token=os.environ["VFABRIC_TOKEN"], verify_ssl=trust)

missing = get_vdcs.sync("acme", client=client)
if not isinstance(missing, ApiError) or missing.code != "not_found":
    sys.exit("a vDC that is not there: %r" % missing)
created = create_vdcs.sync(client=client, body=VdcSpec(name="acme", description="made by a generated client"))
if not isinstance(created, Vdc):
    sys.exit("created: %r" % created)
found = get_vdcs.sync("acme", client=client)
if found != created or found.spec.description != "made by a generated client":
    sys.exit("%r instead of %r" % (found, created))
names = [vdc.spec.name for vdc in list_vdcs.sync(client=client).items]
if names != ["acme"]:
    sys.exit("listed: %r" % names)
print("created and read", found.spec.name)
