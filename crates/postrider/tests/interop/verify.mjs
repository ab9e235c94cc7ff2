// Verifies one delivery, read as JSON from standard input, with the published Standard Webhooks library for Node.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.INTEROP_MODULES + "/");
const { Webhook } = require("standardwebhooks");

// `raw`: the secret is not base64, so the key is the text itself.
const { secret, raw, headers, body } = JSON.parse(readFileSync(0, "utf8"));
const webhook = raw ? new Webhook(Buffer.from(secret), { format: "raw" }) : new Webhook(secret);
webhook.verify(body, headers);
