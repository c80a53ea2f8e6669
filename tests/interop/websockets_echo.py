"""A WebSocket server and, once it is told where to connect, a client: `websockets_echo.py`.

Prints the server's port, reads the URL for the client from standard input, and prints what came back. The server
greets each client before the client has said anything.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


async def echo(connection):
    await connection.send("hello " + connection.request.headers.get("authorization", "nobody"))
    async for message in connection:
        await connection.send(message)


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        url = (await asyncio.to_thread(sys.stdin.readline)).strip()
        async with connect(url, max_size=None, proxy=None) as connection:
            print(await connection.recv(), flush=True)
            for message in ["ping", "x" * 1_000_000, b"\x00\xff" * 500_000]:
                await connection.send(message)
                answer = await connection.recv()
                print(type(answer).__name__, len(answer), answer == message, flush=True)


asyncio.run(main())
