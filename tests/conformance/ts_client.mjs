// The TypeScript SDK's client: one picture over Streamable HTTP, with progress.
//
// usage: node --input-type=module - URL legacy|VERSION <ts_client.mjs
// Read from stdin, it finds its packages in the current folder.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, version] = process.argv.slice(2);
const mode = version === "legacy" ? version : { pin: version };
const client = new Client({ name: "ts-client", version: "1" }, { versionNegotiation: { mode } });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

const progress = [];
const call = { name: "generate_image", arguments: { prompt: "a red fox", n: 2 } };
const result = await client.callTool(call, { onprogress: (step) => progress.push(step) });
await client.close();
console.log(JSON.stringify({ progress, result }));
