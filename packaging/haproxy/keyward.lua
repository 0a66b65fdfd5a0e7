-- Forward auth with keyward for HAProxy 2.6 and later: `http-request lua.keyward SCOPE` asks keyward for
-- one scope, `http-request lua.keyward -` leaves it to keyward's route policy. Where keyward listens is
-- in KEYWARD_AUTHZ_URL (`setenv` in the global section, before lua-load).
--
-- The script passes the request on, with whose key it was in X-Keyward-* and without the key, or answers
-- it with keyward's refusal; 503 if keyward cannot be asked.

local url = os.getenv("KEYWARD_AUTHZ_URL") or "http://127.0.0.1:8080/authz/forward"
local timeout_ms = 2000

-- What keyward gets to see of the request, besides what is set below.
local asked = { "x-api-key", "authorization", "x-request-id", "traceparent", "origin",
                "access-control-request-method" }
-- What the API behind gets to see of the answer.
local identity = { "x-keyward-key-id", "x-keyward-key-name", "x-keyward-account-id",
                   "x-keyward-external-id", "x-keyward-scopes" }
-- What the client gets to see of a refusal.
local shown = { "content-type", "www-authenticate", "retry-after", "ratelimit", "ratelimit-policy",
                "x-request-id", "x-keyward-reason", "cache-control" }

-- A bearer token of keyward's shape: the key itself.
local function is_key(authorization)
  local token = authorization:match("^%s*[Bb][Ee][Aa][Rr][Ee][Rr]%s+(%w+_%w+)%s*$")
  return token ~= nil and #token == 50 and token:find("^%l[%l%d]?[%l%d]?[%l%d]?_") ~= nil
end

local function refuse(txn, status, headers, body)
  local reply = txn:reply({ status = status })
  for name, value in pairs(headers) do reply:add_header(name, value) end
  reply:set_body(body or "")
  txn:done(reply)
end

core.register_action("keyward", { "http-req" }, function(txn, scope)
  local request, question = txn.http:req_get_headers(), {}
  for _, name in ipairs(asked) do
    local values = {}
    -- Every one of them: keyward refuses what is there twice.
    for i = 0, 9 do values[#values + 1] = request[name] and request[name][i] end
    if #values > 0 then question[name] = values end
  end
  question["x-forwarded-method"] = { txn.f:method() }
  question["x-forwarded-uri"] = { txn.f:pathq() }
  question["x-forwarded-host"] = { txn.f:req_hdr("host") or "" }
  question["x-forwarded-for"] = { txn.f:src() }

  -- The headers that Connection names are removed by whoever comes next.
  for i = 0, 9 do
    local named = request["connection"] and request["connection"][i]
    if named and named:lower():find("keyward", 1, true) then return refuse(txn, 400, {}) end
  end

  local target = url
  if scope and scope ~= "-" then target = target .. "?scope=" .. scope end
  local answer = core.httpclient():get({ url = target, headers = question, timeout = timeout_ms })
  local status = answer and answer.status or 0

  if status == 200 then
    -- Whatever a client says of itself goes, however it spells it.
    for name in pairs(request) do
      if name:lower():gsub("_", "-"):find("^x%-keyward%-") then txn.http:req_del_header(name) end
    end
    for _, name in ipairs(identity) do
      txn.http:req_set_header(name, answer.headers[name] and answer.headers[name][0] or "-")
    end
    txn.http:req_del_header("x-api-key")
    local authorization = request["authorization"] and request["authorization"][0]
    if authorization and is_key(authorization) then txn.http:req_del_header("authorization") end
  elseif status == 401 or status == 403 or status == 429 then
    local headers = {}
    for _, name in ipairs(shown) do
      headers[name] = answer.headers[name] and answer.headers[name][0]
    end
    refuse(txn, status, headers, answer.body)
  else
    refuse(txn, 503, {
      ["content-type"] = "application/problem+json",
      ["cache-control"] = "no-store",
      ["retry-after"] = "1",
    }, '{"title":"Try again later","status":503,"code":"authorization_unavailable"}')
  end
end, 1)
