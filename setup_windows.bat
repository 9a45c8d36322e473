@echo off
rem Sets up this machine (Windows) and runs what is asked for:
rem
rem   setup_windows.bat              set up, leave the environment active, say what to run next
rem   setup_windows.bat quick ...    set up, then "fedspec run quick ..."
rem   setup_windows.bat test ...     set up, then every check and the tests; further arguments go to pytest
rem   setup_windows.bat ANYTHING     set up, then "fedspec ANYTHING"
rem
rem It only finds a Python 3.11 or newer (or takes the variable PYTHON); setup_common.py does the rest, the same on
rem every system.
setlocal

rem The Windows wheel of PyTorch that pip finds by itself is CPU-only. With an NVIDIA card, the CUDA one comes from here.
set "FEDSPEC_TORCH_INDEX=https://download.pytorch.org/whl"

set "FOUND="
if defined PYTHON (
    call :try "%PYTHON%"
) else (
    for %%P in ("py -3.13" "py -3.12" "py -3.11" "py -3" "python" "python3") do if not defined FOUND call :try %%~P
)
if not defined FOUND goto missing

%FOUND% "%~dp0setup_common.py" %*
set "CODE=%ERRORLEVEL%"
if not "%~1"=="" exit /b %CODE%
if not "%CODE%"=="0" exit /b %CODE%

rem Without an argument the environment stays active in this window, so that "fedspec" is a command in it.
set "ANSWER=%TEMP%\fedspec-%RANDOM%.txt"
%FOUND% "%~dp0setup_common.py" --venv-name >"%ANSWER%"
set /p NAME=<"%ANSWER%"
del "%ANSWER%"
set "VENV=%~dp0.venv"
if not "%NAME%"==".venv" set "VENV=%LOCALAPPDATA%\fedspec\%NAME%"
endlocal & call "%VENV%\Scripts\activate.bat"
exit /b 0

:missing
if defined PYTHON echo error: PYTHON is set to "%PYTHON%", which is not a working Python 3.11 or newer. 1>&2
if not defined PYTHON echo error: No Python 3.11 or newer was found on this machine. 1>&2
echo   fix: Run "winget install Python.Python.3.13", open a new window, then run the same command again. 1>&2
exit /b 3

:try
rem Running it is the only sure test: Windows has a "python" that only opens the Store.
%* -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>nul
if "%ERRORLEVEL%"=="0" set FOUND=%*
exit /b 0
