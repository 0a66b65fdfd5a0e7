# FastAPI: lets keyward verify the API key of each request. Needs httpx, and Python 3.11 or later.
# A route takes caller: Annotated[dict, Depends(keyward("orders:read"))]; the app, Refused as in the sample.
# KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
# api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
import asyncio, http, logging, math, os, pathlib, re, time
from datetime import datetime
import httpx
from fastapi import Request
from fastapi.responses import JSONResponse

STATUS = {**dict.fromkeys(["MALFORMED", "NOT_FOUND", "REVOKED", "ROTATED", "ACCOUNT_SUSPENDED", "DISABLED",
    "EXPIRED"], 401), "INSUFFICIENT_SCOPES": 403, "IP_NOT_ALLOWED": 403, "RATE_LIMITED": 429}
CHALLENGE = {"WWW-Authenticate": 'ApiKey realm="api", header="X-API-Key"'}
CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
KEY_FILE = pathlib.Path(os.environ["KEYWARD_KEY_FILE"])
# Keeps connections to keyward open. trust_env=False: no proxy from the environment gets the keys.
client = httpx.AsyncClient(base_url=os.environ.get("KEYWARD_URL", "http://127.0.0.1:8080"), trust_env=False)

class Unexpected(Exception): pass

class Refused(Exception):
    async def answer(request, refused):
        status, code, headers, members = refused.args
        problem = {"type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status, "code": code}
        return JSONResponse(problem | members, status, headers, "application/problem+json")

async def verify(question):
    own = {"X-API-Key": KEY_FILE.read_text().strip()}
    ask = lambda: client.post("/api/v1/api-keys/verify", json=question, headers=own)
    async with asyncio.timeout(2): # In all. Only a connection that was closed is tried once more.
        try: answer = await ask()
        except CLOSED: answer = await ask()
    if answer.status_code != 200: raise Unexpected(f"status {answer.status_code}")
    return answer.json()

def keyward(*scopes):
    async def caller(request: Request):
        bearer = re.match("(?i)bearer +(.+)", request.headers.get("Authorization", ""))
        given = request.headers.getlist("X-API-Key")
        key = ", ".join(given) if given else bearer and bearer[1]
        if not key: raise Refused(401, "MISSING_KEY", CHALLENGE, {})
        if bearer and bearer[1] != key: raise Refused(400, "CONFLICTING_KEYS", {}, {})
        question = {"key": key, "scopes": scopes}
        if request.client: question["clientIp"] = request.client.host.partition("%")[0]
        try:
            found = await verify(question)
            if found["valid"] is True and found["code"] == "VALID":
                return found # accountId, externalId, keyId, scopes and the other members of keyward's answer
            status, headers, members = STATUS[found["code"]], {}, {}
            if status == 401: headers = CHALLENGE
            if status == 403: members = {"missingScopes": found["missingScopes"]}
            if status == 429:
                wait = math.ceil(datetime.fromisoformat(found["rateLimit"]["resetAt"]).timestamp() - time.time())
                headers = {"Retry-After": str(max(1, wait))}
        except Exception as error: # Log no text of an answer: it could hold a key.
            reason = error if isinstance(error, Unexpected) else type(error).__name__
            logging.getLogger("keyward").error("keyward cannot verify: %s", reason)
            raise Refused(503, "UNAVAILABLE", {"Retry-After": "5"}, {}) from None
        raise Refused(status, found["code"], headers, members)
    return caller

# ---- End of the middleware. Below is a sample API. ----

from typing import Annotated
from fastapi import Depends, FastAPI

app = FastAPI()
app.add_exception_handler(Refused, Refused.answer)

def show(caller):
    return {"account": caller["accountId"], "key": caller["keyId"], "scopes": caller["scopes"]}

@app.get("/orders")
async def list_orders(caller: Annotated[dict, Depends(keyward("orders:read"))]):
    return show(caller)

@app.post("/orders")
async def create_order(caller: Annotated[dict, Depends(keyward("orders:write"))]):
    return show(caller)

@app.get("/whoami")
async def whoami(caller: Annotated[dict, Depends(keyward())]):
    return show(caller)
