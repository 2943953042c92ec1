// Serves on a free port of 127.0.0.1 until stdin ends. Prints the port, and then
// each pong and each close.
const assert = require('node:assert')
const { WebSocketServer } = require('ws')

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: { threshold: 0 } })
server.on('listening', () => console.log(server.address().port))
server.on('connection', (ws) => {
  assert.strictEqual(ws.extensions, '') // our client offers none
  ws.ping('are you there')
  ws.on('pong', (data) => console.log(`pong ${data}`))
  ws.on('close', (code, reason) => console.log(`close ${code} ${reason}`))
  ws.on('message', (data, binary) => {
    switch (binary ? '' : String(data)) {
      case 'fragments':
        ws.send('one', { fin: false })
        ws.ping('between')
        ws.send(' two', { fin: true })
        break
      case 'close me':
        ws.close(4002, 'as asked')
        break
      default:
        ws.send(data, { binary })
    }
  })
})
process.stdin.resume()
process.stdin.on('end', () => process.exit())
