-- The histories of entities on the server: what `features/history.py` and `features/records.py` do in memory.
--
-- One key holds one entity, as a hash:
--   r          its record: float64 words at the places that the plan gave them
--   b<n>       a block of eight events, oldest first; the newest block is as long as it is full
--   d<n><v>    for distinct count n and value v: when it was seen last, and at which position
--   i<id>      what the transaction with this id was answered, for as long as a repeat of it is recognised
--
-- A position is block * 8 + place, and 0 is none. An event is [time, mask, mask, id, id, values, links]. Lua has no
-- integers, but times in microseconds and positions are whole numbers below 2^53, and a mask or an id takes two words.
-- TABLES comes before this text: the plan, with places that count from 1.

local EVENTS = 8
local WATERMARK, HEAD = 2, 3
local TAIL, EXPIRY, ENTRY, ENTRY_TIME = 0, 1, 2, 3
local ID_HIGH, ID_LOW = 4, 5
local PREVIOUS, NEXT = 0, 1
local COUNT, WHOLE, SQUARE = 0, 1, 3
local LAST, FIRST, SPELL = 0, 1, 2
local LABELS = 1
local IDS = 16 -- bytes of an id
local SPLITTER = 134217729 -- 2^27 + 1
local NEVER, NO_TIME = 1 / 0, -1 / 0
local MISSING = 0 / 0

-- The server's own functions are there when a function is called, not yet when the library is loaded.
local band, bor, bnot, max, min, pack, parse, repeated, sub, call

local function wake()
    if not call then
        band, bor, bnot, max, min = bit.band, bit.bor, bit.bnot, math.max, math.min
        pack, parse, repeated, sub, call = struct.pack, struct.unpack, string.rep, string.sub, redis.call
    end
end

local formats = {}

local function format(words)
    local known = formats[words]
    if not known then
        known = '<' .. repeated('d', words)
        formats[words] = known
    end
    return known
end

local function floats(text)
    return { parse(format(#text / 8), text) }
end

local function text_of(values, count)
    return pack(format(count), unpack(values, 1, count))
end

-- One entity while it is at work. `dirty` are the blocks that have changed, `gone` and `set` the fields beside them.
local function opened(table, key, record)
    return { table = table, key = key, record = record, blocks = {}, dirty = {}, gone = {}, set = {} }
end

local function new_record(table)
    local record = {}
    for word = 1, table.words do
        record[word] = 0
    end
    record[WATERMARK] = NO_TIME
    local windows = table.windows
    for w = 1, #windows do
        local window = windows[w]
        record[window.at + EXPIRY] = NEVER
        if window.delay > 0 then
            record[window.at + ENTRY_TIME] = NEVER
        end
    end
    local memories = table.memories
    for m = 1, #memories do
        local memory = memories[m]
        if memory.kind <= SPELL then
            record[memory.at] = NO_TIME
        elseif memory.value == 0 then
            for step = 1, memory.steps do
                record[memory.at + step] = NO_TIME
            end
        end
    end
    return record
end

-- Return the block of a position, and what to add to the word of an event to find it there.
local function event(entity, position)
    local place = position % EVENTS
    local number = (position - place) / EVENTS
    local block = entity.blocks[number]
    if not block then
        block = floats(call('HGET', entity.key, 'b' .. number))
        entity.blocks[number] = block
    end
    return block, place * entity.table.event_words, number
end

local function accumulate(record, at, value)
    local high, low = record[at], record[at + 1]
    local total = high + value
    local part = total - high
    low = low + ((high - (total - part)) + (value - part))
    high = total + low
    record[at] = high
    record[at + 1] = low - (high - total)
end

-- What `product`, the rounded a * a, lacks.
local function square_error(a, product)
    local x = SPLITTER * a
    local high = x - (x - a)
    local low = a - high
    return low * low - (((product - high * high) - low * high) - high * low)
end

local function apply(record, window, block, base, sign)
    local sums = window.sums
    for s = 1, #sums do
        local kept = sums[s]
        if band(block[base + kept.mask], kept.bit) ~= 0 then
            local at = kept.at
            if kept.kind == COUNT then
                record[at] = record[at] + sign
            else
                local value = block[base + kept.value]
                if kept.kind == WHOLE then
                    record[at] = record[at] + sign * value
                elseif kept.kind == SQUARE then
                    local square = value * value
                    accumulate(record, at, sign * square)
                    accumulate(record, at, sign * square_error(value, square))
                else
                    accumulate(record, at, sign * value)
                end
            end
        end
    end
end

local function id_field(high, low)
    return 'i' .. pack('<dd', high, low)
end

local function value_field(number, value)
    return 'd' .. number .. pack('<d', value)
end

-- Take the oldest event out of a window.
local function leave(entity, window, position, block, base)
    local record, table = entity.record, entity.table
    apply(record, window, block, base, -1)
    local pointers = window.pointers
    for p = 1, #pointers do
        local pointer = pointers[p]
        if record[pointer.at] == position then
            local chain = table.chains[pointer.chain]
            local is_back = record[chain.back] == position
            record[pointer.at] = is_back and 0 or block[base + chain.links + NEXT]
        end
    end
    local counters = window.counters
    for k = 1, #counters do
        local counter = counters[k]
        local distinct = table.distincts[counter.distinct]
        if band(block[base + distinct.bit_mask], distinct.newest) ~= 0 then
            record[counter.at] = record[counter.at] - 1
            if window.duration == distinct.longest then
                entity.gone[value_field(counter.distinct, block[base + distinct.value])] = true
            end
        end
    end
    if window.ids then
        entity.gone[id_field(block[base + ID_HIGH], block[base + ID_LOW])] = true
    end
end

-- Let the events that are old enough into a window with a delay.
local function enter(entity, window, t)
    local record, at = entity.record, window.at
    while record[at + ENTRY_TIME] <= t do
        local position = record[at + ENTRY]
        local block, base = event(entity, position)
        apply(record, window, block, base, 1)
        if record[at + EXPIRY] == NEVER then
            record[at + TAIL] = position
            record[at + EXPIRY] = block[base + 1] + window.delay + window.duration
        end
        position = position + 1
        record[at + ENTRY] = position
        if position == record[HEAD] then
            record[at + ENTRY_TIME] = NEVER
        else
            block, base = event(entity, position)
            record[at + ENTRY_TIME] = block[base + 1] + window.delay
        end
    end
end

-- Move every window on to time t, and drop the blocks that no window needs.
local function advance(entity, t)
    local record, table = entity.record, entity.table
    local last = #table.windows
    local windows = table.windows
    for number = 1, #windows do
        local window = windows[number]
        local at, delay = window.at, window.delay
        if delay > 0 and record[at + ENTRY_TIME] <= t then
            enter(entity, window, t)
        end
        local expiry = record[at + EXPIRY]
        if expiry <= t then
            local stop = delay > 0 and record[at + ENTRY] or record[HEAD]
            local length = delay + window.duration
            local position = record[at + TAIL]
            while expiry <= t do
                local block, base, place = event(entity, position)
                leave(entity, window, position, block, base)
                position = position + 1
                if number == last and position % EVENTS == 0 then
                    entity.gone['b' .. place] = true
                    entity.dirty[place] = nil
                end
                if position == stop then
                    expiry = NEVER
                else
                    block, base = event(entity, position)
                    expiry = block[base + 1] + length
                end
            end
            record[at + TAIL], record[at + EXPIRY] = position, expiry
            if expiry == NEVER then -- empty: nothing may be left of what was rounded
                local sums = window.sums
                for s = 1, #sums do
                    local kept = sums[s]
                    record[kept.at] = 0
                    if kept.kind > WHOLE then
                        record[kept.at + 1] = 0
                    end
                end
            end
        end
    end
end

-- Put an event at the back of a chain of extrema, taking out those that it surpasses or equals.
local function link(entity, chain, position, block, base)
    local record = entity.record
    local sign, word, links = chain.sign, chain.value, chain.links
    local value = sign * block[base + word]
    local front, before = record[chain.front], 0
    if front ~= 0 then
        local place = record[chain.back]
        while true do
            local other, start, number = event(entity, place)
            if sign * other[start + word] > value then
                before = place
                other[start + links + NEXT] = position
                entity.dirty[number] = true
                break
            end
            if place == front then
                break
            end
            place = other[start + links + PREVIOUS]
        end
    end
    block[base + links + PREVIOUS] = before
    record[chain.back] = position
end

-- Mark an event as the newest of its value; return when the one before it was, or NO_TIME.
local function newest_before(entity, number, distinct, t, position, block, base)
    local before = NO_TIME
    local field = value_field(number, block[base + distinct.value])
    local known = entity.set[field] or (not entity.gone[field] and call('HGET', entity.key, field))
    if known then
        local older
        before, older = parse('<dd', known)
        local other, start, dirty = event(entity, older)
        local word = start + distinct.bit_mask
        other[word] = band(other[word], bnot(distinct.newest))
        entity.dirty[dirty] = true
    end
    entity.gone[field] = nil
    entity.set[field] = pack('<dd', t, position)
    local word = base + distinct.bit_mask
    block[word] = bor(block[word], distinct.newest)
    return before
end

local function holds(mask_1, mask_2, lane)
    return band(lane.mask == 2 and mask_1 or mask_2, lane.bit) ~= 0
end

-- Append a transaction to the events and let it into all windows without a delay.
local function push(entity, t, input)
    local record, table = entity.record, entity.table
    local position = record[HEAD]
    if position == 0 then
        position = EVENTS
    end
    if position % EVENTS == 0 then
        entity.blocks[position / EVENTS] = {}
    end
    local block, base, number = event(entity, position)
    entity.dirty[number] = true
    block[base + 1] = t
    block[base + 2], block[base + 3] = input.mask_1, input.mask_2
    block[base + ID_HIGH], block[base + ID_LOW] = input.id_high, input.id_low
    for value = 1, table.stored do
        block[base + ID_LOW + value] = input[value]
    end
    for word = ID_LOW + table.stored + 1, table.event_words do
        block[base + word] = 0
    end
    local chains = table.chains
    for c = 1, #chains do
        local chain = chains[c]
        if holds(input.mask_1, input.mask_2, chain) then
            link(entity, chain, position, block, base)
        end
    end
    local windows = table.windows
    for w = 1, #windows do
        local window = windows[w]
        local at = window.at
        if window.delay > 0 then
            if record[at + ENTRY_TIME] == NEVER then
                record[at + ENTRY], record[at + ENTRY_TIME] = position, t + window.delay
            end
        else
            apply(record, window, block, base, 1)
            if record[at + EXPIRY] == NEVER then
                record[at + TAIL], record[at + EXPIRY] = position, t + window.duration
            end
            local pointers = window.pointers
            for p = 1, #pointers do
                local pointer = pointers[p]
                local chain = table.chains[pointer.chain]
                if holds(input.mask_1, input.mask_2, chain) then
                    local best = record[pointer.at]
                    local beaten = best == 0
                    if not beaten then
                        local other, start = event(entity, best)
                        beaten = chain.sign * other[start + chain.value] <= chain.sign * block[base + chain.value]
                    end
                    if beaten then
                        record[pointer.at] = position
                    end
                end
            end
        end
    end
    local distincts = table.distincts
    for index = 1, #distincts do
        local distinct = distincts[index]
        if holds(input.mask_1, input.mask_2, distinct) then
            local before = newest_before(entity, index, distinct, t, position, block, base)
            local windows = table.windows
            for w = 1, #windows do
                local window = windows[w]
                if before + window.duration <= t then -- the value was not in this window already
                    local counters = window.counters
                    for k = 1, #counters do
                        local counter = counters[k]
                        if counter.distinct == index then
                            record[counter.at] = record[counter.at] + 1
                        end
                    end
                end
            end
        end
    end
    record[HEAD] = position + 1
end

-- Keep the time and the value of an event, where a feature will ask for them.
local function remember(entity, t, input)
    local record = entity.record
    local memories = entity.table.memories
    for m = 1, #memories do
        local memory = memories[m]
        local at, kind = memory.at, memory.kind
        if kind == LAST then
            if holds(input.mask_1, input.mask_2, memory) then
                record[at] = t
                if memory.value > 0 then
                    record[at + 1] = input[memory.value]
                end
            end
        elseif kind == FIRST then
            if t - record[WATERMARK] >= memory.horizon then
                record[at] = t
            end
        elseif kind == SPELL then
            if t - record[at] >= memory.horizon then
                record[at + 1] = t
                record[at + 2] = 0
            end
            record[at + 2] = record[at + 2] + 1
            record[at] = t
        else
            local place = record[at]
            record[at + 1 + place] = memory.value > 0 and input[memory.value] or t
            place = place + 1
            record[at] = place < memory.steps and place or 0
        end
    end
end

local answers = {} -- used again for each: to grow a table costs more than to fill it

-- Return what the features read: the time that counts, then the words of the plan's list.
local function answer(entity, t)
    local record, out = entity.record, answers
    out[1] = t
    local reads = entity.table.reads
    for place = 1, #reads do
        local read = reads[place]
        local word = record[read.at]
        if read.value > 0 then -- of an extremum, the value
            if word == 0 then
                word = MISSING
            else
                local block, base = event(entity, word)
                word = block[base + read.value]
            end
        end
        out[place + 1] = word
    end
    return text_of(out, #entity.table.reads + 1)
end

-- Write back what has changed, all in one call for what is set and one for what is gone.
local function close(entity)
    local table, record, key = entity.table, entity.record, entity.key
    local gone, set = {}, { 'r', text_of(record, table.words) }
    for field in pairs(entity.gone) do
        gone[#gone + 1] = field
    end
    for field, value in pairs(entity.set) do
        set[#set + 1], set[#set + 2] = field, value
    end
    local head = record[HEAD]
    for number in pairs(entity.dirty) do
        if not entity.gone['b' .. number] then
            local events = head - number * EVENTS
            local words = (events < EVENTS and events or EVENTS) * table.event_words
            set[#set + 1], set[#set + 2] = 'b' .. number, text_of(entity.blocks[number], words)
        end
    end
    if #gone > 0 then
        for first = 1, #gone, 1000 do
            call('HDEL', key, unpack(gone, first, min(first + 999, #gone)))
        end
    end
    call('HSET', key, unpack(set))
    call('PEXPIRE', key, table.expire_ms)
end

local function input_of(table, text)
    local values = { parse(table.format, text, IDS + 1) }
    values.id_high, values.id_low = parse('<dd', text)
    local count = table.inputs
    values.time, values.floor = values[count + 1], values[count + 2]
    values.mask_1, values.mask_2 = values[count + 3], values[count + 4]
    return values
end

-- Read, then update, for one transaction and one entity of it. ARGV: place of the table in the plan, the transaction.
local function observe(keys, arguments)
    wake()
    local table, text, key = TABLES[tonumber(arguments[1])], arguments[2], keys[1]
    local labels = table.source == LABELS
    local found = call('HMGET', key, 'r', 'i' .. sub(text, 1, IDS))
    if labels and not found[1] then
        return ''
    end
    if found[2] and not labels then
        return found[2] -- it came before, and is not counted again
    end
    local input = input_of(table, text)
    local entity = opened(table, key, found[1] and floats(found[1]) or new_record(table))
    local record = entity.record
    local t = max(input.time, record[WATERMARK], input.floor)
    advance(entity, t)
    local said = answer(entity, t)
    if not labels then
        remember(entity, t, input)
        push(entity, t, input)
        entity.set[id_field(input.id_high, input.id_low)] = said
    end
    record[WATERMARK] = t
    close(entity)
    return said
end

-- Apply one label of fraud to one entity; the arguments are those of `observe`.
local function learn(keys, arguments)
    wake()
    local table, text, key = TABLES[tonumber(arguments[1])], arguments[2], keys[1]
    local found = call('HMGET', key, 'r', 'i' .. sub(text, 1, IDS))
    if found[2] then
        return '0'
    end
    local input = input_of(table, text)
    local entity = opened(table, key, found[1] and floats(found[1]) or new_record(table))
    local record = entity.record
    local t = max(input.time, record[WATERMARK], input.floor)
    remember(entity, t, input)
    advance(entity, t)
    push(entity, t, input)
    entity.set[id_field(input.id_high, input.id_low)] = '1'
    record[WATERMARK] = t
    close(entity)
    return '1'
end

redis.register_function(NAME .. '_observe', observe)
redis.register_function(NAME .. '_learn', learn)

-- Keep the newest time that any writer has seen, and how far one of them has come. ARGV: time, writer, its position, and
-- when the state was begun, as far as that is known. Returns the newest time, and when it was begun.
local function progress(keys, arguments)
    wake()
    local known, born = unpack(call('HMGET', keys[1], 'clock', 'born'))
    if arguments[4] ~= '' and arguments[4] ~= born then
        return redis.error_reply('LOST the state that was used is gone')
    end
    if not born then
        born = table.concat(call('TIME'), '.')
        call('HSET', keys[1], 'born', born)
    end
    if not known or tonumber(arguments[1]) > tonumber(known) then
        known = arguments[1]
        call('HSET', keys[1], 'clock', known)
    end
    call('HSET', keys[1], 'position:' .. arguments[2], arguments[3])
    return { known, born }
end

redis.register_function(NAME .. '_progress', progress)
