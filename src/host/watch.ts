/**
 * Sees that files have changed: one that is touched for that purpose, or all that is loaded.
 *
 * Thread: the environment's own. Nothing here keeps the environment alive.
 */
import { type FSWatcher, watch, watchFile as pollFile } from "node:fs";
import path from "node:path";

const POLL_MS = 500;
/** Editors and builds write several files one after the other. */
const SETTLE_MS = 100;
/** Folders with new files to watch are looked for this often. */
const LOOK_MS = 1000;

/** Calls `changed` each time the file is written, touched, made or removed. */
export function watchFile(file: string, changed: () => void): void {
  pollFile(file, { interval: POLL_MS, persistent: false }, changed);
}

/**
 * Calls `changed` when something has changed in one of the folders, or where the files are.
 * @param files is asked from time to time, as more is loaded.
 */
export function watchFolders(
  folders: readonly string[],
  files: () => Promise<readonly string[]>,
  changed: () => void,
): void {
  const watchers = new Map<string, FSWatcher>();
  let settling: NodeJS.Timeout | undefined;
  const onChange = (): void => {
    clearTimeout(settling);
    settling = setTimeout(changed, SETTLE_MS);
    settling.unref();
  };
  const add = (folder: string): void => {
    if (folder === "" || watchers.has(folder)) return;
    try {
      // Folders, as editors replace files by others of the same name.
      const watcher = watch(folder, { persistent: false }, onChange);
      const drop = (): void => {
        watcher.close();
        watchers.delete(folder);
      };
      watcher.on("error", drop);
      watchers.set(folder, watcher);
    } catch {
      // It is gone, or there is no room for a watcher: the next look tries again.
    }
  };
  const look = async (): Promise<void> => {
    for (const file of await files()) add(path.dirname(file));
  };
  folders.forEach(add);
  void look();
  setInterval(() => void look(), LOOK_MS).unref();
}
