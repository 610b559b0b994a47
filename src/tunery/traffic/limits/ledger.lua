-- Counts of limits in Redis: the arithmetic of account.py, and the rules of ledger.py, in one atomic step.
--
-- KEYS[1]  prefix of all names, with a hash tag, so that a cluster keeps them on one node
-- ARGV[1]  reserve, settle, keep or look
-- ARGV[2]  JSON: what of; and `now` where a test says what time it is [s since 1970]
--
-- Accounts are JSON texts that are written by a format, for cjson would round times to 0.1 ms.
local prefix, op, given = KEYS[1], ARGV[1], cjson.decode(ARGV[2])
local now = given.now
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local ACCOUNT_S, ENDED_S = 40 * 86400, 86400
local SLACK, SLACK_USD, SLACK_S = 0.01, 1e-9, 1e-6
local FORMAT = '{"at":%.17g,"requests":%.17g,"tokens":%.17g,"parallel":%d,"held_tokens":%d,"held_usd":%.17g,'
  .. '"day":%d,"day_tokens":%d,"day_usd":%.17g,"month":%d,"month_tokens":%d,"month_usd":%.17g}'

local function month_of(day) -- days since 1970 to months since year 0; Hinnant, chrono-compatible date algorithms
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return year * 12 + month - 1
end

local day = math.floor(now / 86400)
local month = month_of(day)

local function read(name)
  local text = redis.call('GET', prefix .. ':account:' .. name)
  return text and cjson.decode(text) or nil
end

local function fresh()
  return { at = now, requests = 0, tokens = 0, parallel = 0, held_tokens = 0, held_usd = 0,
    day = day, day_tokens = 0, day_usd = 0, month = month, month_tokens = 0, month_usd = 0 }
end

local function text_of(a)
  return string.format(FORMAT, a.at, a.requests, a.tokens, a.parallel, a.held_tokens, a.held_usd,
    a.day, a.day_tokens, a.day_usd, a.month, a.month_tokens, a.month_usd)
end

local function write(name, a)
  redis.call('SET', prefix .. ':account:' .. name, text_of(a), 'EX', ACCOUNT_S)
end

local function advance(a, bounds)
  local passed = math.max(0, now - a.at)
  a.at = math.max(a.at, now)
  for _, what in ipairs({ 'requests', 'tokens' }) do
    local capacity = bounds[what .. '_per_minute']
    local owed = capacity and math.min(a[what], capacity) - capacity / 60 * passed or 0
    a[what] = math.max(0, owed)
  end
  if day > a.day then a.day, a.day_tokens, a.day_usd = day, 0, 0 end
  if month > a.month then a.month, a.month_tokens, a.month_usd = month, 0, 0 end
end

local function fits(a, bounds, need)
  for limit, bound in pairs(bounds) do
    local left, needed, spared = nil, nil, true
    if limit == 'requests_per_minute' then left, needed = bound - a.requests, 1
    elseif limit == 'tokens_per_minute' then left, needed = bound - a.tokens, need.tokens
    elseif limit == 'parallel_requests' then left, needed = bound - a.parallel, 1
    else
      spared = false
      local what = string.sub(limit, 1, 3) == 'usd' and 'usd' or 'tokens'
      local period = string.match(limit, '_(%a+)$')
      left, needed = bound - a[period .. '_' .. what] - a['held_' .. what], need[what]
    end
    if spared then left = left - math.max(0, math.min((need.spare or 0) * bound, bound - needed)) end
    local slack = SLACK + (string.sub(limit, -7) == '_minute' and bound / 60 * SLACK_S or 0)
    if needed > left + (string.sub(limit, 1, 3) == 'usd' and SLACK_USD or slack) then return false end
  end
  return true
end

local function take(a, bounds, need)
  if bounds.requests_per_minute then a.requests = a.requests + 1 end
  if bounds.tokens_per_minute then a.tokens = a.tokens + need.tokens end
  a.parallel = a.parallel + 1
  a.held_tokens = a.held_tokens + need.tokens
  a.held_usd = a.held_usd + need.usd
end

local function settle(a, bounds, need, used, held_s)
  if need then
    a.parallel = math.max(0, a.parallel - 1)
    a.held_tokens = math.max(0, a.held_tokens - need.tokens)
    a.held_usd = a.parallel > 0 and math.max(0, a.held_usd - need.usd) or 0
  end
  if bounds.tokens_per_minute then
    local more = used.tokens - (need and need.tokens or 0)
    local change = more > 0 and more or math.min(0, more + bounds.tokens_per_minute / 60 * held_s)
    a.tokens = math.max(0, a.tokens + change)
  end
  a.day_tokens, a.day_usd = a.day_tokens + used.tokens, a.day_usd + used.usd
  a.month_tokens, a.month_usd = a.month_tokens + used.tokens, a.month_usd + used.usd
end

local function finish(claims, need, used, held_s)
  for _, claim in ipairs(claims) do
    local a = read(claim.account) or fresh()
    advance(a, claim.bounds)
    settle(a, claim.bounds, need, used, held_s)
    write(claim.account, a)
  end
end

local function sweep()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. ':live', '-inf', now, 'LIMIT', 0, 100)) do
    local text = redis.call('GET', prefix .. ':call:' .. id)
    if text then
      local held = cjson.decode(text)
      finish(held.claims, held.need, { tokens = 0, usd = 0 }, now - held.at)
      redis.call('SET', prefix .. ':call:' .. id, 'lapsed', 'EX', ENDED_S)
    end
    redis.call('ZREM', prefix .. ':live', id)
  end
end

if op == 'reserve' then
  sweep()
  local accounts, missing = {}, false
  for n, claim in ipairs(given.claims) do
    accounts[n] = read(claim.account)
    if not accounts[n] and given.seeds then accounts[n] = cjson.decode(given.seeds[n]) end
    if not accounts[n] then missing = true end
  end
  if missing then return { -1 } end
  local known = redis.call('EXISTS', prefix .. ':call:' .. given.id) == 1
  local fit = true
  for n, claim in ipairs(given.claims) do
    advance(accounts[n], claim.bounds)
    fit = fits(accounts[n], claim.bounds, given.need) and fit
  end
  local answer = { (known or fit) and 1 or 0 }
  for n, claim in ipairs(given.claims) do
    if fit and not known then take(accounts[n], claim.bounds, given.need) end
    write(claim.account, accounts[n])
    answer[n + 1] = text_of(accounts[n])
  end
  if fit and not known then
    local call = string.format('{"at":%.17g,"need":%s,"claims":%s}', now, given.need_text, given.claims_text)
    redis.call('SET', prefix .. ':call:' .. given.id, call, 'EX', ACCOUNT_S)
    redis.call('ZADD', prefix .. ':live', now + given.lease_s, given.id)
  end
  return answer
elseif op == 'settle' then
  for _, ended in ipairs(given.ended) do
    local key = prefix .. ':call:' .. ended.id
    local text = redis.call('GET', key)
    if text ~= 'settled' then
      local held = text and text ~= 'lapsed' and cjson.decode(text) or nil
      finish(ended.claims, held and held.need, ended.used, held and now - held.at or 0)
      redis.call('SET', key, 'settled', 'EX', ENDED_S)
      redis.call('ZREM', prefix .. ':live', ended.id)
    end
  end
elseif op == 'keep' then
  for _, id in ipairs(given.ids) do
    redis.call('ZADD', prefix .. ':live', 'XX', now + given.lease_s, id)
  end
  sweep()
elseif op == 'look' then
  local answer = {}
  for n, claim in ipairs(given.claims) do
    local a = read(claim.account)
    if a then advance(a, claim.bounds) end
    answer[n] = a and text_of(a) or ''
  end
  return answer
end
return {}
