// The TypeScript SDK's client: two pictures over Streamable HTTP, with progress.
//
// usage: node --input-type=module - URL legacy|VERSION TOKEN PROMPT <ts_client.mjs
// Read from stdin, it finds its packages in the current folder.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, version, token, prompt] = process.argv.slice(2);
const mode = version === "legacy" ? version : { pin: version };
const requestInit = { headers: { authorization: `Bearer ${token}` } };
const client = new Client({ name: "ts-client", version: "1" }, { versionNegotiation: { mode } });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));

const progress = [];
const call = { name: "generate_image", arguments: { prompt, n: 2 } };
const result = await client.callTool(call, { onprogress: (step) => progress.push(step) });
await client.close();
console.log(JSON.stringify({ progress, result }));
