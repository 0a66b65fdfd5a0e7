"""What Schemathesis cannot read in the API document: the facts of one server.

`run.py` starts Schemathesis with this file. `KEYWARD_FACTS` has the facts as JSON.
"""
import collections
import json
import os
import zlib

import requests
import schemathesis

from rules import RULES, faults_of, rules_for

FACTS = json.loads(os.environ["KEYWARD_FACTS"])
CALLER = FACTS["caller"]
session = requests.Session()
session.headers["X-API-Key"] = FACTS["root"]


def id_of(operation):
    return operation.definition.raw["operationId"]


def created(path, **body):
    answer = session.post(f"{FACTS['url']}/api/v1{path}", json={"name": "For one request", **body}, timeout=20)
    assert answer.status_code == 201, answer.text
    return answer.json()


def fresh_key():
    """Returns a key with the powers of the caller."""
    return created(f"/accounts/{CALLER['accountId']}/api-keys", scopes=CALLER["scopes"])


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Narrows schemas to the facts of this server: it accepts each of these values, and must refuse all others."""
    schemas = raw_schema["components"]["schemas"]
    # Each operator has scopes of their own.
    schemas["ScopeName"]["enum"] = FACTS["scopes"]
    schemas["AllowedScopeName"]["enum"] = FACTS["allowedScopes"]
    # An answer may gain members, so the document leaves the shared schema open. A request may not have others.
    schemas["RateLimit"]["additionalProperties"] = False
    for name in ["CreateKeyRequest", "UpdateKeyRequest"]:
        # A schema knows neither the time nor the bits of a network.
        schemas[name]["properties"]["expiresAt"]["enum"] = FACTS["instants"] + [None]
        schemas[name]["properties"]["allowedIps"]["items"]["enum"] = FACTS["networks"]
    # The key of an exchange can also be in a header, but not in both places.
    schemas["TokenExchangeRequest"]["required"] += ["subject_token"]
    raw_schema["paths"]["/api/v1/token"]["post"]["security"] = []
    for name, values in FACTS["form"].items():
        schemas["TokenExchangeRequest"]["properties"][name]["enum"] = values
    for item in raw_schema["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "If-Match":
                    # A request with an `ETag` that is out of date gets no further than 412.
                    parameter["schema"]["enum"] = ["*"]
    stream = raw_schema["paths"]["/api/v1/events/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    # OpenAPI has `itemSchema` from version 3.2 on.
    data = {"anyOf": [{"$ref": "#/components/schemas/Event"}, {"type": "object", "required": ["reason"]}]}
    stream["itemSchema"] = {"type": "object", "properties": {
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data}}}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Asks for proofs of events that the caller may read, too."""
    seq = (path_parameters or {}).get("seq")
    if isinstance(seq, int) and 0 < seq:
        path_parameters["seq"] = FACTS["events"][seq % len(FACTS["events"])]
    return path_parameters


@schemathesis.hook
def map_query(context, query):
    """Asks for proofs within the log, too."""
    for name in ["from", "to", "size"]:
        if query and isinstance(query.get(name), int) and 0 < query[name]:
            query[name] = 1 + query[name] % 20
    return query


@schemathesis.hook
def before_call(context, case, kwargs):
    """Gives a request keys that exist, and keeps the caller and the prepared keys alive."""
    operation = case.operation.definition.raw
    if not operation["security"]:
        # Such an operation has no caller. Two keys in one request are refused, and a form has a key of its own.
        case.headers.pop("X-API-Key", None)
    if operation["operationId"] == "verifyApiKey" and isinstance(case.body, dict) and type(case.body.get("key")) is str:
        # A generated key is never that of a stored key.
        keys = [case.body["key"], *FACTS["verdicts"]]
        case.body["key"] = keys[zlib.crc32(json.dumps(case.body).encode()) % len(keys)]
    if case.method == "GET":
        return
    named = (case.path_parameters or {}).get("id")
    if ("Own" in operation["operationId"] or named == "self") and case.headers.get("X-API-Key") == CALLER["key"]:
        case.headers["X-API-Key"] = fresh_key()["key"]
    elif named in FACTS["lasting"]:
        of_account = case.operation.path.startswith("/api/v1/accounts/")
        case.path_parameters["id"] = (created("/accounts") if of_account else fresh_key())["id"]


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops the failures that the rules explain. Every other one counts."""
    operation = id_of(case.operation)
    faults = faults_of(failure.message, response.content)
    if rules_for(RULES, failure.code, operation, faults, case.headers):
        return False
    print("no rule:", failure.code, operation, faults)
    return True


@schemathesis.check
class Seen:
    """Counts the answers, and the verdicts of verify, for `run.py`."""

    def __init__(self):
        self.answers = collections.defaultdict(collections.Counter)

    def after_response(self, ctx, response, case):
        operation = id_of(case.operation)
        self.answers[operation][str(response.status_code)] += 1
        if operation == "verifyApiKey" and response.status_code == 200:
            self.answers["verdicts"][response.json()["code"]] += 1

    def after_run(self, ctx):
        with open(FACTS["seen"], "w") as file:
            json.dump(self.answers, file)
