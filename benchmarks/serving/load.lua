-- The requests of wrk. With a file: distinct transactions, as traffic.py writes them; without: wrk's own one request.
-- Arguments after "--": FILE FIRST_SERIAL TRANSACTIONS_A_REQUEST [HEADER_LINE ...]

local heads, tails, days, dates = {}, {}, {}, {}
local count, span, start, serial, together, headers
local turn = -1
local ID_START, BEFORE_DATE = '{"transaction_id":"', '","effective_time":"'
local NUMBER, DATE = 12, 10 -- digits of a number, characters of a date

local function head(length)
  return "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    .. length .. "\r\n" .. headers .. "\r\n"
end

local function read(path)
  local lines = io.lines(path)
  count, span, start = lines():match("(%d+) (%d+) (%d+)")
  count, span, start = tonumber(count), tonumber(span), tonumber(start)
  for line in lines do
    local day, tail = line:match("^(%d+)\t(.*)$")
    days[#days + 1] = tonumber(day)
    tails[#tails + 1] = tail
    heads[#heads + 1] = head(#ID_START + NUMBER + #BEFORE_DATE + DATE + #tail) .. ID_START
  end
end

-- Advances to the next transaction: its number as text, its place in the file and its date.
local function advance()
  local now = math.floor(serial / count)
  if now ~= turn then -- texts of dates are made once a round
    turn = now
    for day = 0, span do
      dates[day] = BEFORE_DATE .. os.date("!%Y-%m-%d", (start + turn * span + day) * 86400)
    end
  end
  local place = serial - turn * count + 1
  local number = string.format("%012d", serial)
  serial = serial + 1
  return number, place, dates[days[place]]
end

local function one()
  local number, place, date = advance()
  return heads[place] .. number .. date .. tails[place] -- a single concatenation: each makes a string of its own
end

local function array()
  local parts = {}
  for i = 1, together do
    local number, place, date = advance()
    parts[i] = ID_START .. number .. date .. tails[place]
  end
  local text = "[" .. table.concat(parts, ",") .. "]"
  return head(#text) .. text
end

function init(args)
  if args[2] then
    serial, together, headers = tonumber(args[2]), tonumber(args[3]), ""
    for i = 4, #args do
      headers = headers .. args[i] .. "\r\n"
    end
    read(args[1])
    request = together == 1 and one or array
  else
    local file = io.open(args[1], "rb") -- one whole request, the same every time
    local fixed = file:read("*a")
    file:close()
    request = function()
      return fixed
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'JSON {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "refused": %d, "broken": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
