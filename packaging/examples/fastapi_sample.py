# A sample API that fastapi_keyward.py protects.
from typing import Annotated

from fastapi import Depends, FastAPI

from fastapi_keyward import Refused, keyward

app = FastAPI()


@app.exception_handler(Refused)
async def answer(request, refused):
    return refused.response


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
