"""Python's websockets (version 10.4) against an echo server of this module, and as the server that it dials.

clients.py client URL CERTIFICATE     talks to the server at a ws or wss URL
clients.py server CERTIFICATE KEY     echoes on two free ports, ws and wss, which it prints, until its standard input ends

A check that fails ends the program with a stack.
"""

import asyncio
import os
import ssl
import sys

import websockets
from websockets.exceptions import ConnectionClosedError, InvalidStatusCode
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import OP_TEXT

PATIENCE = 20  # seconds
MIB = 1 << 20


def note(url, text):
    print(f"  {url.split(':')[0]}: {text}", flush=True)


async def echoed(ws, message):
    await ws.send(message)
    got = await ws.recv()
    assert type(got) is type(message) and got == message, (type(got), len(got), len(message))


async def talk(url, context, compressed):
    options = dict(ssl=context, max_size=4 * MIB, compression="deflate" if compressed else None, subprotocols=["other", "echo"])
    async with websockets.connect(url + "/echo", **options) as ws:
        assert ws.subprotocol == "echo", ws.subprotocol
        deflate = [e for e in ws.extensions if isinstance(e, PerMessageDeflate)]
        assert len(deflate) == int(compressed), ws.extensions
        for message in ("hello", "", b"", "grüße, 世界 \U0001f600", bytes(range(256)), "x" * 125, "x" * 126, "x" * 65536):
            await echoed(ws, message)
        await echoed(ws, os.urandom(MIB))
        await echoed(ws, "0123456789abcdef" * (MIB // 16))
        for pieces in (["in ", "three ", "frames"], [b"a" * 1000, b"", b"c" * 70000]):
            await ws.send(pieces)
            got = await ws.recv()
            assert got == pieces[0][:0].join(pieces), len(got)
        for payload in (b"", b"ping", b"x" * 125):
            await asyncio.wait_for(await ws.ping(payload), PATIENCE)
        # Many at once come back in order.
        messages = [f"message {i} " + "." * (i * 7 % 3000) for i in range(500)]
        async def write():
            for m in messages:
                await ws.send(m)
        writer = asyncio.ensure_future(write())
        for m in messages:
            assert await ws.recv() == m
        await writer
        await ws.close(4000, "enough")
        assert ws.close_rcvd.code == 4000 and ws.close_code == 4000, ws.close_rcvd
    how = f"compressed by {deflate[0]}" if compressed else "uncompressed"
    note(url, f"text, binary, 1 MiB, fragments, pings, 500 messages in order, close code 4000; {how}")


async def closes(url, context):
    """What the server ends, and with which code."""
    async def reserved(ws):  # a frame with an opcode that the library does not make
        ws.transport.write(b"\x83\x80\x00\x00\x00\x00")

    async def ended(code, reason, act):
        async with websockets.connect(url + "/echo", ssl=context, max_size=4 * MIB) as ws:
            await act(ws)
            try:
                while True:
                    await asyncio.wait_for(ws.recv(), PATIENCE)
            except ConnectionClosedError as e:
                assert e.rcvd and e.rcvd.code == code and (reason is None or e.rcvd.reason == reason), e
                note(url, f"the server closes: {e.rcvd}")

    await ended(4001, "goodbye", lambda ws: ws.send("bye"))
    await ended(1009, None, lambda ws: ws.send(bytes(3 * MIB)))
    await ended(1007, None, lambda ws: ws.write_frame(True, OP_TEXT, b"\xff\xfe"))
    await ended(1002, None, reserved)


async def refused(url, context):
    for path, status in (("/elsewhere", 404), ("/echo?refuse", 403)):
        try:
            async with websockets.connect(url + path, ssl=context):
                raise AssertionError(path + " was accepted")
        except InvalidStatusCode as e:
            assert e.status_code == status, e
            note(url, f"{path}: {e}")
    if context:
        try:
            async with websockets.connect(url + "/echo"):  # the system's roots
                raise AssertionError("a certificate that nobody has signed was accepted")
        except ssl.SSLCertVerificationError as e:
            note(url, e.verify_message)


async def client(url, certificate):
    context = ssl.create_default_context(cafile=certificate) if url.startswith("wss:") else None
    for compressed in (False, True):
        await talk(url, context, compressed)
    await closes(url, context)
    await refused(url, context)

    async def one(i):
        async with websockets.connect(url + "/echo", ssl=context) as ws:
            for j in range(10):
                await echoed(ws, f"{i}, {j}")
    await asyncio.gather(*(one(i) for i in range(30)))
    note(url, "30 clients at once")


async def server(certificate, key):
    async def echo(ws):
        assert ws.path == "/echo?name=engine", ws.path
        try:
            async for message in ws:
                if message == "bye":
                    await ws.close(4002, "goodbye from Python")
                else:
                    await ws.send([message[:10], message[10:]] if len(message) > 10 else message)
        except ConnectionClosedError:
            pass  # closed with a code that is not 1000
        print(f"  server: {'wss' if ws.secure else 'ws'}, {ws.extensions or 'uncompressed'}, ended: {ws.close_rcvd}", flush=True)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    options = dict(max_size=4 * MIB, subprotocols=["echo"])
    async with websockets.serve(echo, "127.0.0.1", 0, **options) as ws, websockets.serve(echo, "127.0.0.1", 0, ssl=context, **options) as wss:
        print("ports", *(s.sockets[0].getsockname()[1] for s in (ws, wss)), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run({"client": client, "server": server}[sys.argv[1]](*sys.argv[2:]))
