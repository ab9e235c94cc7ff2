// Verifies one delivery, read as JSON from standard input, with the published Standard Webhooks library for Node.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.INTEROP_MODULES + "/");
const { Webhook } = require("standardwebhooks");

const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
let webhook;
try {
  webhook = new Webhook(secret);
} catch {
  webhook = new Webhook(Buffer.from(secret), { format: "raw" }); // not base64: the key is the text itself
}
webhook.verify(body, headers);
