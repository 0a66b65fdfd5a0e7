# Django: lets keyward verify the API key of each request. Needs urllib3 2, and Python 3.11 or later.
# Decorate a view with @keyward("orders:read"); request.keyward then names the key.
# KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
# api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
import concurrent.futures, datetime, functools, http, ipaddress, logging, math, os, pathlib, re, time

import urllib3
from django.http import JsonResponse

UNAUTHORIZED = ["MALFORMED", "NOT_FOUND", "REVOKED", "ROTATED", "ACCOUNT_SUSPENDED", "DISABLED", "EXPIRED"]
CHALLENGE = {"WWW-Authenticate": 'ApiKey realm="api", header="X-API-Key"'}
URL = os.environ.get("KEYWARD_URL", "http://127.0.0.1:8080").rstrip("/") + "/api/v1/api-keys/verify"
KEY_FILE = pathlib.Path(os.environ["KEYWARD_KEY_FILE"])
pool = urllib3.PoolManager(maxsize=16)  # Keeps connections to keyward open.
# The time-out of urllib3 is for each read. Only waiting for another thread limits the whole question.
threads = concurrent.futures.ThreadPoolExecutor(16)


class Unexpected(Exception): ...


def verify(question):
    own = {"X-API-Key": KEY_FILE.read_text().strip()}
    ask = functools.partial(pool.request, "POST", URL, json=question, headers=own, timeout=2, retries=False)
    try:
        answer = ask()
    except urllib3.exceptions.ProtocolError:  # Only a connection that was closed is tried once more.
        answer = ask()
    if answer.status != 200:
        raise Unexpected(f"status {answer.status}")
    return answer.json()


def address_of(request):
    try:
        return {"clientIp": str(ipaddress.ip_address(request.META["REMOTE_ADDR"].partition("%")[0]))}
    except (KeyError, ValueError):  # On a Unix socket, this is no IP address.
        return {}


def refuse(status, code, headers=None, **members):
    problem = {"type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status, "code": code}
    return JsonResponse(problem | members, status=status, headers=headers, content_type="application/problem+json")


def keyward(*scopes):
    def protect(view):
        @functools.wraps(view)
        def protected(request, *args, **kwargs):
            bearer = re.findall("(?i)^bearer +(.+)", request.headers.get("Authorization", ""))
            keys = {request.headers.get("X-API-Key"), *bearer} - {None}
            if len(keys) != 1:
                return refuse(400, "CONFLICTING_KEYS") if keys else refuse(401, "MISSING_KEY", CHALLENGE)
            question = {"key": keys.pop(), "scopes": scopes} | address_of(request)
            answer = threads.submit(verify, question)
            try:
                found = answer.result(timeout=2)
                code = found["code"]
                if code == "RATE_LIMITED":
                    reset = datetime.datetime.fromisoformat(found["rateLimit"]["resetAt"]).timestamp()
                    return refuse(429, code, {"Retry-After": str(max(1, math.ceil(reset - time.time())))})
                if code in ["INSUFFICIENT_SCOPES", "IP_NOT_ALLOWED"]:
                    return refuse(403, code, missingScopes=found["missingScopes"])
                if code in UNAUTHORIZED:
                    return refuse(401, code, CHALLENGE)
                if code != "VALID" or found["valid"] is not True:
                    raise Unexpected("an unknown answer")
            except Exception as error:  # Log no text of an answer: it could hold a key.
                answer.cancel()
                reason = error if isinstance(error, Unexpected) else type(error).__name__
                logging.getLogger("keyward").error("keyward cannot verify: %s", reason)
                return refuse(503, "UNAVAILABLE", {"Retry-After": "5"})
            request.keyward = found  # accountId, externalId, keyId, scopes and the other members of the answer
            return view(request, *args, **kwargs)

        return protected

    return protect
