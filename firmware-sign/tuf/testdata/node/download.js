// download.js METADATA-DIR METADATA-URL TARGETS-URL TARGET: status 0 if the
// client installs the target; then its path and its custom data are on
// standard output. With HOURS_AHEAD the client's clock is that much later.
const { Updater } = require('tuf-js');
const fs = require('fs');
const path = require('path');

const ahead = Number(process.env.HOURS_AHEAD || 0) * 3600e3;
const Clock = Date;
global.Date = class extends Clock {
  constructor(...args) { args.length ? super(...args) : super(Clock.now() + ahead); }
};
const [metadataDir, metadataBaseUrl, targetBaseUrl, target] = process.argv.slice(2);
const targetDir = fs.mkdtempSync(path.join(metadataDir, 'targets-'));
(async () => {
  const updater = new Updater({ metadataDir, metadataBaseUrl, targetDir, targetBaseUrl, config: { fetchRetries: 0, fetchTimeout: 30000 } });
  await updater.refresh();
  const info = await updater.getTargetInfo(target);
  if (!info) throw new Error('no such target');
  console.log(await updater.downloadTarget(info));
  console.log(JSON.stringify(info.custom));
})().catch((e) => { console.log(e.name + ': ' + e.message); process.exit(1); });
