# The addon alone, as a .node file for a stock node (node-gyp, prebuildify). The same sources are in the embedded backend.
{
  "targets": [
    {
      "target_name": "resty_ts",
      "sources": [
        "<!@(node -p \"const s=JSON.parse(require('fs').readFileSync('native/sources.json','utf8'));[...s.channel,...s.addon,...s.program].join(' ')\")"
      ],
      "include_dirs": ["native/include", "native"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "cflags": ["-Wall", "-Wextra", "-Wshadow", "-fvisibility=hidden", "-g"],
      "cflags_c": ["-std=c11"],
      "cflags_cc": [
        "-std=c++17", "-fno-exceptions", "-fno-rtti",
        "-isystem <!(node -p \"require('path').resolve(require('node-addon-api').include_dir)\")"
      ],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
      "ldflags": [
        "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack", "-Wl,-z,text", "-Wl,--build-id=sha1",
        "-Wl,--version-script=<(module_root_dir)/native/addon.map"
      ]
    }
  ]
}
