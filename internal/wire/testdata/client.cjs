// Talks to the echoing server at argv[2] as a client, and prints "ok".
const assert = require('node:assert')
const { once } = require('node:events')
const WebSocket = require('ws')

async function connect() {
  const ws = new WebSocket(process.argv[2])
  await once(ws, 'open')
  assert.strictEqual(ws.extensions, '')
  return ws
}

async function echoes() {
  const ws = await connect()
  const want = []
  const got = []
  ws.on('message', (data, binary) => got.push({ data, binary }))
  for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
    for (const binary of [false, true]) {
      const data = Buffer.alloc(size, 'x')
      want.push({ data, binary })
      ws.send(data, { binary })
    }
  }
  want.push({ data: Buffer.from('one two'), binary: false })
  let pong = ''
  ws.on('pong', (data) => { pong = String(data) })
  ws.send('one', { fin: false })
  ws.ping('between')
  ws.send(' two', { fin: true })
  for (const { data, binary } of want) {
    while (got.length === 0) await once(ws, 'message')
    const first = got.shift()
    assert.strictEqual(first.binary, binary)
    assert.ok(first.data.equals(data), `${first.data.length} bytes instead of ${data.length}`)
  }
  assert.strictEqual(pong, 'between')
  ws.close(4001, 'done')
  assert.deepStrictEqual(await goodbye(ws), [4001, ''])
}

async function goodbye(ws) {
  const [code, reason] = await once(ws, 'close')
  return [code, String(reason)]
}

async function faults() {
  let ws = await connect()
  ws.send(Buffer.alloc((1 << 20) + 1))
  assert.deepStrictEqual(await goodbye(ws), [1009, 'message too big'])
  ws = await connect()
  ws.send(Buffer.from([0xff]), { binary: false })
  assert.deepStrictEqual(await goodbye(ws), [1007, 'text is not UTF-8'])
}

echoes().then(faults).then(() => console.log('ok'))
