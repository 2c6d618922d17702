// download.js METADATA-DIR URL TARGET: status 0 and the target's custom data on
// standard output if the client installs it.
const { Updater } = require('tuf-js');
const fs = require('fs');
const path = require('path');

const [metadataDir, url, target] = process.argv.slice(2);
const targetDir = fs.mkdtempSync(path.join(metadataDir, 'targets-'));
(async () => {
  const updater = new Updater({
    metadataDir, metadataBaseUrl: url + '/metadata', targetDir, targetBaseUrl: url + '/targets',
    config: { fetchRetries: 0, fetchTimeout: 30000 },
  });
  await updater.refresh();
  const info = await updater.getTargetInfo(target);
  if (!info) throw new Error('no such target');
  await updater.downloadTarget(info);
  console.log(JSON.stringify(info.custom));
})().catch((e) => { console.log(e.name + ': ' + e.message); process.exit(1); });
