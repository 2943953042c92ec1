// Talks to the echoing server at argv[2] as a client that compresses, and prints
// "ok".
const assert = require('node:assert')
const crypto = require('node:crypto')
const { once } = require('node:events')
const WebSocket = require('ws')

async function connect(perMessageDeflate) {
  const ws = new WebSocket(process.argv[2], { perMessageDeflate: { threshold: 0, ...perMessageDeflate } })
  await once(ws, 'open')
  assert.strictEqual(ws.extensions, 'permessage-deflate')
  const agreed = ws._extensions['permessage-deflate'].params
  assert.ok(agreed.server_no_context_takeover && agreed.client_no_context_takeover)
  return ws
}

// like is n bytes of JSON, which compress well.
function like(n) {
  let s = ''
  for (let i = 0; s.length < n; i++) s += `{"topic":"/rooms/${i % 7}","seq":${i},"text":"häuser"},`
  return Buffer.from(s).subarray(0, n)
}

async function echoes(options, smaller) {
  const ws = await connect(options)
  const { bytesRead, bytesWritten } = ws._socket
  const want = []
  const got = []
  let size = 0
  ws.on('message', (data, binary) => got.push({ data, binary }))
  const expect = (data, binary) => { want.push({ data, binary }); size += data.length }
  for (const n of [0, 1, 125, 126, 511, 512, 1000, 32767, 32768, 65535, 65536, 100000, 1 << 20]) {
    for (const data of [like(n), crypto.randomBytes(n)]) {
      expect(data, true)
      ws.send(data)
    }
    const text = Buffer.from('µ'.repeat(n / 2))
    expect(text, false)
    ws.send(text, { binary: false })
  }
  let pong = ''
  ws.on('pong', (data) => { pong = String(data) })
  const parts = [like(1), like(1000), Buffer.alloc(0), like(65536), like(300000)]
  expect(Buffer.concat(parts), true)
  for (const [i, part] of parts.entries()) {
    ws.send(part, { binary: true, fin: i === parts.length - 1 })
    if (i === 2) ws.ping('between')
  }
  expect(Buffer.from('not compressed'), false)
  ws.send('not compressed', { compress: false })
  for (const { data, binary } of want) {
    while (got.length === 0) await once(ws, 'message')
    const first = got.shift()
    assert.strictEqual(first.binary, binary)
    assert.ok(first.data.equals(data), `${first.data.length} bytes instead of ${data.length}`)
  }
  assert.strictEqual(pong, 'between')
  if (smaller) { // a third of it is noise
    assert.ok(ws._socket.bytesWritten - bytesWritten < size / 2, 'we did not compress')
    assert.ok(ws._socket.bytesRead - bytesRead < size / 2, 'the server did not compress')
  }
  ws.close(1000)
  assert.deepStrictEqual(await goodbye(ws), [1000, ''])
}

async function goodbye(ws) {
  const [code, reason] = await once(ws, 'close')
  return [code, String(reason)]
}

async function faults() {
  let ws = await connect({})
  ws.send(Buffer.alloc(1 << 28))
  assert.deepStrictEqual(await goodbye(ws), [1009, 'message too big'])
  ws = await connect({})
  ws._socket.write(Buffer.from([0xc2, 0x82, 0, 0, 0, 0, 0xff, 0xff])) // not deflate
  assert.deepStrictEqual(await goodbye(ws), [1007, 'compressed message is malformed'])
  ws = await connect({})
  ws.send(Buffer.from([0xff]), { binary: false })
  assert.deepStrictEqual(await goodbye(ws), [1007, 'text is not UTF-8'])
}

echoes({}, true)
  .then(() => echoes({ serverNoContextTakeover: true, clientNoContextTakeover: true, clientMaxWindowBits: 9 }, true))
  .then(() => echoes({ serverMaxWindowBits: 15, zlibDeflateOptions: { level: 1, memLevel: 1, strategy: 4 } }, false))
  .then(faults)
  .then(() => console.log('ok'))
