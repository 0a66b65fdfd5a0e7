# FastAPI: lets keyward verify the API key of each request. Needs httpx, and Python 3.11 or later.
# A route takes caller: Annotated[dict, Depends(keyward("orders:read"))]; the app, Refused as in fastapi_sample.py.
# KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
# api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
import asyncio, functools, http, ipaddress, logging, math, os, pathlib, re, time
from datetime import datetime

import httpx
from fastapi import Request
from fastapi.responses import JSONResponse

UNAUTHORIZED = ["MALFORMED", "NOT_FOUND", "REVOKED", "ROTATED", "ACCOUNT_SUSPENDED", "DISABLED", "EXPIRED"]
STATUS = dict.fromkeys(UNAUTHORIZED, 401)
STATUS |= {"INSUFFICIENT_SCOPES": 403, "IP_NOT_ALLOWED": 403, "RATE_LIMITED": 429}
CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
KEY_FILE = pathlib.Path(os.environ["KEYWARD_KEY_FILE"])
URL = os.environ.get("KEYWARD_URL", "http://127.0.0.1:8080").rstrip("/")


class Unexpected(Exception): ...


class Refused(Exception):
    def __init__(self, status, code, wait=None, **members):
        problem = {"type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status, "code": code}
        challenge = {"WWW-Authenticate": 'ApiKey realm="api", header="X-API-Key"'} if status == 401 else {}
        headers = challenge if wait is None else {"Retry-After": str(wait)}
        self.response = JSONResponse(problem | members, status, headers, "application/problem+json")


@functools.lru_cache(maxsize=1)
def client_of(loop):
    """Keeps connections to keyward open. They belong to one event loop; a TestClient without `with` has many."""
    return httpx.AsyncClient(base_url=URL, trust_env=False)  # No proxy from the environment gets the keys.


async def verify(question):
    client = client_of(asyncio.get_running_loop())
    own = {"X-API-Key": KEY_FILE.read_text().strip()}
    async with asyncio.timeout(2):  # For both attempts.
        request = client.build_request("POST", "/api/v1/api-keys/verify", json=question, headers=own)
        try:
            answer = await client.send(request)
        except CLOSED:  # Only a connection that was closed is tried once more.
            answer = await client.send(request)
    if answer.status_code != 200:
        raise Unexpected(f"status {answer.status_code}")
    return answer.json()


def address_of(request):
    try:
        return {"clientIp": str(ipaddress.ip_address(request.client.host.partition("%")[0]))}
    except (AttributeError, ValueError):  # On a Unix socket there is no address, and in a TestClient it is a name.
        return {}


def keyward(*scopes):
    async def caller(request: Request):
        bearer = re.findall("(?i)^bearer +(.+)", request.headers.get("Authorization", ""))
        keys = {*request.headers.getlist("X-API-Key"), *bearer}
        if len(keys) != 1:
            raise Refused(400, "CONFLICTING_KEYS") if keys else Refused(401, "MISSING_KEY")
        question = {"key": keys.pop(), "scopes": scopes} | address_of(request)
        try:
            found = await verify(question)
            code = found["code"]
            if code == "VALID" and found["valid"] is True:
                return found  # accountId, externalId, keyId, scopes and the other members of keyward's answer
            status, wait, members = STATUS[code], None, {}
            if status == 403:
                members = {"missingScopes": found["missingScopes"]}
            if status == 429:
                reset = datetime.fromisoformat(found["rateLimit"]["resetAt"]).timestamp()
                wait = max(1, math.ceil(reset - time.time()))
        except Exception as error:  # Log no text of an answer: it could hold a key.
            reason = error if isinstance(error, Unexpected) else type(error).__name__
            logging.getLogger("keyward").error("keyward cannot verify: %s", reason)
            raise Refused(503, "UNAVAILABLE", 5) from None
        raise Refused(status, code, wait, **members)

    return caller
