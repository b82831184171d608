// The `minim` binary: one verb a file.
#include "apps/cli.h"
#include "apps/serve.h"

int main(int argc, char** argv) {
  CLI::App app(
      "minim trains, shrinks and serves models at the lowest precision that keeps their answers.");
  app.set_version_flag("--version", MINIM_VERSION);
  app.require_subcommand(1);
  app.footer("Each verb has --help with an example.");
  int exit_code = 0;
  minim::AddTrainCommand(app, exit_code);
  minim::AddShrinkCommand(app, exit_code);
  minim::AddServeCommand(app, exit_code);
  minim::AddLoadCommand(app, exit_code);
  minim::AddWatchCommands(app, exit_code);
  minim::AddReportCommand(app, exit_code);
  minim::AddRunCommand(app, exit_code);
  minim::AddCompareCommand(app, exit_code);
  minim::AddBenchCommand(app, exit_code);
  minim::AddInspectCommand(app, exit_code);
  minim::AddExplainCommand(app, exit_code);
  minim::AddTuneCommand(app, exit_code);
  minim::AddDoctorCommand(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::Error& error) {
    fmt::print(stderr, "minim: {}; see minim {} --help\n", error.what(),
               argc > 1 && argv[1][0] != '-' ? argv[1] : "");
    return minim::kExitUsage;
  }
  return exit_code;
}
